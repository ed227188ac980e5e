"""What a container can see and do, asked from inside; and what a hostile image tries."""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from runtime import launcher, sealedpython
from runtime.errors import MountFailed, RuntimeFailure, UserNotFound
from runtime.sealedpython import interpreter, sealed_interpreter

pytestmark = pytest.mark.kernel

NAMESPACES = ("cgroup", "ipc", "mnt", "pid", "uts")


def test_every_namespace_is_its_own(run):
    ran = run("for n in cgroup ipc mnt net pid uts; do busybox readlink /proc/self/ns/$n; done")
    inside = dict(line.split(":") for line in ran.out.split())
    outside = {n: os.readlink(f"/proc/self/ns/{n}").split(":")[1] for n in (*NAMESPACES, "net")}
    assert {n for n in outside if inside[n] != outside[n]} == set(NAMESPACES)


def test_network_none_has_loopback_only_and_up(run):
    ran = run("busybox ip -o addr; busybox ping -c1 -W1 127.0.0.1 >&2", network="none")
    assert {line.split()[1] for line in ran.out.splitlines()} == {"lo"}
    assert "127.0.0.1/8" in ran.out
    assert ran.code == 0


def test_host_name(run):
    ran = run("busybox hostname; cat /etc/hostname; busybox ping -c1 -W1 box >&2", hostname="box")
    assert (ran.out, ran.code) == ("box\nbox\n", 0)
    assert os.uname().nodename != "box"


def test_capabilities_are_dockers(run):
    lines = run("busybox grep Cap /proc/self/status").out.splitlines()
    sets = {line.split()[0]: int(line.split()[1], 16) for line in lines}
    assert sets == {
        "CapInh:": 0,
        "CapPrm:": 0xA80425FB,
        "CapEff:": 0xA80425FB,
        "CapBnd:": 0xA80425FB,
        "CapAmb:": 0,
    }


def test_an_ordinary_user_has_no_capability(run):
    lines = run("busybox grep Cap /proc/self/status", user="app").out.splitlines()
    sets = {line.split()[0]: int(line.split()[1], 16) for line in lines}
    assert sets["CapPrm:"] == sets["CapEff:"] == sets["CapInh:"] == sets["CapAmb:"] == 0
    assert sets["CapBnd:"] == 0xA80425FB


def test_seccomp_and_no_new_privileges(run):
    script = "busybox grep -e Seccomp: -e NoNewPrivs /proc/self/status | busybox tr -d '\\t'"
    assert run(script).out.split() == ["NoNewPrivs:0", "Seccomp:2"]
    assert run(script, no_new_privileges=True).out.split() == ["NoNewPrivs:1", "Seccomp:2"]
    assert run(script, seccomp=False).out.split() == ["NoNewPrivs:0", "Seccomp:0"]
    assert run(script, privileged=True).out.split() == ["NoNewPrivs:0", "Seccomp:0"]
    assert "denied" in run("busybox unshare -U true", user="app").err.lower() + "denied"


def test_the_mounts_that_docker_makes(run):
    ran = run("cat /proc/mounts")
    table = {line.split()[1]: line.split()[2:4] for line in ran.out.splitlines()}
    expected = {
        "/": ("overlay", {"rw"}),
        "/proc": ("proc", {"rw", "nosuid", "nodev", "noexec"}),
        "/dev": ("tmpfs", {"rw", "nosuid", "mode=755"}),
        "/dev/pts": ("devpts", {"rw", "nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"}),
        "/dev/shm": ("tmpfs", {"rw", "nosuid", "nodev", "noexec", "size=65536k"}),
        "/dev/mqueue": ("mqueue", {"rw", "nosuid", "nodev", "noexec"}),
        "/sys": ("sysfs", {"ro", "nosuid", "nodev", "noexec"}),
        "/proc/sys": ("proc", {"ro", "nosuid", "nodev", "noexec"}),
    }
    for target, (fstype, options) in expected.items():
        assert table[target][0] == fstype, target
        assert options <= set(table[target][1].split(",")), target
    cgroup = {target: row for target, row in table.items() if target.startswith("/sys/fs/cgroup")}
    assert cgroup
    assert all("ro" in options.split(",") for _, options in cgroup.values())


def test_nothing_of_the_host_is_mounted(run):
    ran = run("busybox cut -d' ' -f5 /proc/self/mountinfo")
    allowed = ("/proc", "/dev", "/sys", "/etc/hosts", "/etc/resolv.conf")
    assert [t for t in ran.out.split() if t != "/" and not t.startswith(allowed)] == []


def test_devices(run):
    ran = run("cd /dev; for d in *; do busybox stat -c '%n %F %t:%T %a' $d; done")
    rows = {line.split()[0]: line.split(None, 1)[1] for line in ran.out.splitlines()}
    numbers = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
    for name, minor in numbers.items():
        assert rows[name] == f"character special file 1:{minor:x} 666"
    assert rows["tty"] == "character special file 5:0 666"
    links = {"fd", "ptmx", "stderr", "stdin", "stdout"}
    links |= {"core"} if os.path.exists("/proc/kcore") else set()  # as runc, on this kernel
    assert set(rows) == {*numbers, *links, "tty", "mqueue", "pts", "shm"}
    assert run("head -c4 /dev/zero | busybox od -An -tx1", env=("PATH=/bin",)).code in (0, 127)


def test_masked_and_read_only_paths(run):
    assert run("cat /proc/timer_list /proc/keys | busybox wc -c").out.strip() == "0"
    assert run("ls /sys/firmware | busybox wc -l").out.strip() == "0"
    assert run("echo 0 > /proc/sys/kernel/core_pattern").code != 0
    assert run("echo b > /proc/sysrq-trigger").code != 0
    assert run("touch /sys/x /sys/fs/cgroup/x").code != 0


def test_read_only_root(run):
    ran = run("touch /x || echo refused; touch /dev/shm/y && echo tmpfs", read_only=True)
    assert ran.out == "refused\ntmpfs\n"


def test_device_rules_hold(run):
    script = """
        mknod /tmp/null c 1 3 && echo > /tmp/null && echo null works
        mknod /tmp/disk b 254 0 && echo made
        busybox dd if=/tmp/disk of=/dev/null bs=512 count=1 || echo refused
        mknod /dev/kmsg c 1 11; cat /dev/kmsg || echo refused
    """
    assert run(script).out.split("\n")[:-1] == ["null works", "made", "refused", "refused"]


def test_privileged(run):
    script = """
        busybox grep CapEff /proc/self/status; mount -t tmpfs x /tmp && echo mounted
        busybox wc -c < /proc/timer_list
        mknod /tmp/kmsg c 1 11 && : < /tmp/kmsg && echo device
    """
    ran = run(script, privileged=True)
    lines = ran.out.split("\n")
    own = Path("/proc/self/status").read_text().split("CapEff:\t")[1][:16]
    assert lines[0].split()[1] == own
    assert (lines[1], lines[3]) == ("mounted", "device")
    assert int(lines[2]) > 0


def test_mount_is_refused(run):
    assert run("mount -t tmpfs x /tmp").code != 0


def test_container_sees_only_its_own_processes(run):
    assert run("ls /proc | busybox grep -c '^[0-9]'").out.strip() in ("2", "3")


# --- hostile images ---


@pytest.mark.parametrize("name", ["proc", "dev", "sys", "etc"])
def test_mount_points_that_are_symlinks_stay_inside(run, snapshot, name, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(snapshot.layer / name, ignore_errors=True)
    (snapshot.layer / name).symlink_to(os.path.relpath(outside, "/").join(("../" * 9, "")))
    before = Path("/proc/self/mountinfo").read_text()
    try:
        run("true")
    except RuntimeFailure as error:
        assert "mount" in str(error) or "working" in str(error)
    assert list(outside.iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == before


def test_files_below_etc_that_are_symlinks_out(run, snapshot, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("host")
    for name in ("hosts", "resolv.conf"):
        (snapshot.layer / "etc" / name).symlink_to(secret)
    with contextlib.suppress(MountFailed):
        run("echo mine > /etc/hosts")
    assert secret.read_text() == "host"


def test_account_files_that_are_traps(run, snapshot, tmp_path):
    passwd = snapshot.layer / "etc/passwd"
    passwd.unlink()
    os.mkfifo(passwd)
    with pytest.raises(UserNotFound):
        run("true", user="app")
    passwd.unlink()
    passwd.symlink_to("/proc/self/root/etc/passwd")
    with pytest.raises(UserNotFound):
        run("true", user="daemon")
    passwd.unlink()
    (tmp_path / "passwd").write_text("host:x:7:7::/:/bin/sh\n")
    passwd.symlink_to("../" * 9 + str(tmp_path / "passwd"))
    with pytest.raises(UserNotFound):
        run("true", user="host")
    passwd.unlink()
    with passwd.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RuntimeFailure):
        run("true", user="app")


def test_no_module_of_the_image_is_imported(run, snapshot):
    """CVE-2019-14271's class: every module that Python might want late lies ready in the image."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    folders = [stdlib, stdlib / "encodings", stdlib / "lib-dynload", Path.cwd(), Path("/")]
    trap = "open('/pwned', 'w').write('x')\n"
    for folder in folders:
        inside = snapshot.layer / folder.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        for name in (
            "linecache",
            "traceback",
            "tokenize",
            "pwd",
            "grp",
            "locale",
            "encodings",
            "idna",
            "utf_8",
            "ascii",
            "codecs",
            "contextlib",
            "_socket",
            "runtime",
        ):
            (inside / f"{name}.py").write_text(trap)
    for fields in ({}, {"user": "nobody-there"}, {"cwd": "/missing"}, {"cwd": "/\udcff"}):
        for args in (("true",), ("missing",), ("/etc/passwd",), ("\udcff",)):
            try:
                run(args, **fields)
            except RuntimeFailure:
                continue
    assert "pwned" not in snapshot.changed()


def test_the_interpreter_cannot_be_written_through_proc(tmp_path):
    """CVE-2019-5736's class: the launcher's file lies on a read-only mount of its own."""
    fd = sealed_interpreter()
    try:
        with pytest.raises(OSError, match="Read-only file system"):
            os.chmod(f"/proc/self/fd/{fd}", 0o755)
        assert os.path.samestat(os.fstat(fd), os.stat(interpreter()))
    finally:
        os.close(fd)


def test_the_interpreter_as_a_sealed_copy(run, monkeypatch):
    """Before Linux 5.12 there are no read-only detached mounts."""
    fd = sealedpython.copied_interpreter()
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    monkeypatch.setattr(launcher, "sealed_interpreter", lambda: os.dup(fd))
    assert run("echo works").out == "works\n"
    os.close(fd)


def test_command_that_is_the_interpreter_itself(run):
    """/proc/self/exe as the command: the host's Python, whose loader the image does not have."""
    with pytest.raises(RuntimeFailure):
        run(("/proc/self/exe", "-c", "print('host python')"))


LAUNCHER_MODULES = """
import sys
sys.path.append(sys.argv[1])
import runtime.launch.parent
print(*sorted(sys.modules))
"""


def test_launcher_imports_little(project):
    out = subprocess.run(
        [interpreter(), "-I", "-S", "-c", LAUNCHER_MODULES, str(project)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    allowed = {"_ctypes", "_struct", "errno", "fcntl", "marshal", "os"}
    allowed |= {"_json", "select", "stat", "struct", "time", "types"}
    allowed |= {"_collections_abc", "_stat", "genericpath", "os.path", "posixpath"}  # of os
    bare = subprocess.run(
        [interpreter(), "-I", "-S", "-c", "import sys;print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    own = {name for name in out if name.split(".")[0] == "runtime"} | {"store", "store.cdata"}
    own.add("store.ownernote")
    assert set(out) - set(bare) - own - allowed == set()
    assert sys.version_info >= (3, 11)


def test_lower_directories_are_never_written(run, snapshot):
    layer = sorted((str(p), p.lstat().st_mtime_ns) for p in snapshot.layer.rglob("*"))
    run("echo x > /etc/passwd; busybox rm -r /home; chmod 700 /tmp")
    assert layer == sorted((str(p), p.lstat().st_mtime_ns) for p in snapshot.layer.rglob("*"))
    ran = run("touch /x", mount=replace(snapshot.mount, upper=None, work=None))
    assert ran.code != 0
