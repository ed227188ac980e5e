"""Attacks from inside: each fails, and succeeds with its one guard switched off."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from runtime import defaults
from runtime.bundle import oci_seccomp

pytestmark = pytest.mark.kernel

Change = Callable[[dict], None]


@pytest.fixture
def attack(oci, bundle):
    """Return a function: attack("script", change) is what a container of docker's walls printed."""

    def run(script: str, *changes: Change, fails: bool = False) -> str:
        folder = bundle(script)
        spec = json.loads((folder / "config.json").read_text())
        spec["linux"]["seccomp"] = oci_seccomp(
            defaults.seccomp_profile(), spec["process"]["capabilities"]["bounding"]
        )
        for change in changes:
            change(spec)
        (folder / "config.json").write_text(json.dumps(spec))
        done = oci("run", "-b", folder, "attack", check=False)
        assert fails == (done.returncode == 1 and not done.stdout)
        return done.stdout + done.stderr

    return run


def capability(name: str) -> Change:
    """Give the container a capability, and the profile that goes with it."""

    def change(spec: dict) -> None:
        sets = spec["process"]["capabilities"]
        for key in ("bounding", "effective", "permitted"):
            sets[key] = [*sets[key], name]
        if "seccomp" in spec["linux"]:
            spec["linux"]["seccomp"] = oci_seccomp(defaults.seccomp_profile(), sets["bounding"])

    return change


def no_seccomp(spec: dict) -> None:
    del spec["linux"]["seccomp"]


def without(path: str) -> Change:
    """Take an entry out of the read-only and masked paths."""

    def change(spec: dict) -> None:
        for key in ("readonlyPaths", "maskedPaths"):
            spec["linux"][key] = [entry for entry in spec["linux"][key] if entry != path]

    return change


def no_namespace(kind: str) -> Change:
    def change(spec: dict) -> None:
        spaces = spec["linux"]["namespaces"]
        spec["linux"]["namespaces"] = [entry for entry in spaces if entry["type"] != kind]

    return change


def every_device(spec: dict) -> None:
    spec["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]


def test_loading_a_module(attack):
    # What is no module is refused for its form once the rights are there.
    script = "echo none > /tmp/x.ko; insmod /tmp/x.ko 2>&1"
    assert "Operation not permitted" in attack(script)
    with_rights = attack(script, capability("CAP_SYS_MODULE"))
    assert "can't insert" in with_rights
    assert "Operation not permitted" not in with_rights


@pytest.mark.parametrize(
    ("file", "guard"),
    [
        ("/proc/sys/kernel/core_pattern", "/proc/sys"),
        ("/proc/irq/default_smp_affinity", "/proc/irq"),
    ],
)
def test_the_hosts_settings(attack, file, guard):
    script = f"f={file}; (cat $f > $f) 2>/dev/null && echo set || echo refused"
    assert attack(script) == "refused\n"
    assert attack(script, without(guard)) == "set\n"


def test_the_magic_key(attack):
    """`h` only prints a help text into the kernel's log."""
    file = "/proc/sysrq-trigger"
    there = os.path.exists(file)  # not every kernel has it
    script = f"[ -e {file} ] || echo none; (echo h > {file}) 2>/dev/null && echo pressed"
    assert attack(f"{script}; :").split() == ([] if there else ["none"])
    assert attack(f"{script}; :", without(file)).split() == (["pressed"] if there else ["none"])


def test_the_hosts_processes(attack):
    victim = subprocess.Popen(["sleep", "1000"])
    try:
        script = f"ls -d /proc/{victim.pid} 2>/dev/null; kill -0 {victim.pid} 2>/dev/null"
        script += " && echo reached || echo none"
        assert attack(script) == "none\n"
        assert attack(script, no_namespace("pid")) == f"/proc/{victim.pid}\nreached\n"
    finally:
        victim.kill()
        victim.wait()


@pytest.mark.parametrize("what", ["-t tmpfs x /tmp", "-t proc x /tmp", "-o remount,rw /proc/sys"])
def test_mounting(attack, what):
    script = f"mount {what} 2>/dev/null && echo mounted || echo refused"
    assert attack(script) == "refused\n"
    assert attack(script, capability("CAP_SYS_ADMIN")) == "mounted\n"


def test_the_hosts_devices(attack):
    script = "rm -f /tmp/loop; mknod /tmp/loop b 7 0; "
    script += "(: < /tmp/loop) 2>/dev/null && echo opened || echo refused"
    assert attack(script) == "refused\n"
    assert attack(script, every_device) == "opened\n"


def test_the_hosts_memory_by_a_masked_file(attack):
    script = "cat /proc/keys | grep -c . "
    assert attack(script) == "0\n"
    assert int(attack(script, without("/proc/keys"))) > 0


def test_new_keys_and_traces_of_the_kernel(attack):
    """What the filter alone holds back: a user namespace of one's own."""
    script = "unshare -U true 2>/dev/null && echo made || echo refused"
    assert attack(script) == "refused\n"
    assert attack(script, no_seccomp) == "made\n"


UNSEALED = (
    "import sys; sys.path.insert(0, {project!r});"
    "from runtime.command.main import main; sys.exit(main(sys.argv[1:], sealed=True))"
)
LOOK = """
import os
print(os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)
"""


def test_the_interpreter_by_its_own_name(oci, bundle, project, show_python):
    """CVE-2019-5736: /proc/self/exe as the command is the host's Python, and open to writing."""
    folder = bundle(command := ["/proc/self/exe", "-I", "-S", "-c", LOOK])
    spec = json.loads((folder / "config.json").read_text())
    show_python(spec)
    (folder / "config.json").write_text(json.dumps(spec))
    # By then run is a program of a few bytes in sealed memory, which does nothing with this.
    assert oci("run", "-b", folder, "a", check=False).stdout == ""
    # exec, which others in the container could see, is an interpreter on a read-only mount.
    spec["process"]["args"] = ["sleep", "1000"]
    (folder / "config.json").write_text(json.dumps(spec))
    oci("run", "--detach", "-b", folder, "b")
    assert oci("exec", "b", *command).stdout == "1\n"
    # Without either it is the host's own mount: who waits until nobody runs it can write.
    spec["process"]["args"] = command
    (folder / "config.json").write_text(json.dumps(spec))
    for words in (["run", "-b", str(folder), "c"], ["exec", "b", *command]):
        unsealed = [sys.executable, "-c", UNSEALED.format(project=str(project))]
        unsealed += ["--root", str(oci.root), *words]
        done = subprocess.run(unsealed, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.stdout == "0\n", done.stderr
    oci("delete", "--force", "b")


def test_a_module_for_the_launcher(oci, bundle, rootfs):
    """The image is full of Python that would say so if it were ever run."""
    said = "open('/tmp/planted', 'w')\n"
    for name in ("json", "_json", "encodings/__init__", "runtime/__init__", "signal", "pwd"):
        path = rootfs / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(said)
    oci("run", "--detach", "-b", bundle("sleep 1000"), "a")
    oci("exec", "--cwd", "/", "a", "true")
    oci("exec", "a", "nosuch", check=False)
    oci("delete", "--force", "a")
    assert not (rootfs / "tmp/planted").exists()


def test_a_leaked_directory(oci, bundle):
    """CVE-2024-21626: a descriptor of the host's root as the working directory."""
    folder = bundle("cat etc/hostname", process={"cwd": "/proc/self/fd/7"})
    spec = json.loads((folder / "config.json").read_text())
    spec["process"]["args"] = ["sh", "-c", "ls"]
    (folder / "config.json").write_text(json.dumps(spec))
    for options, said in (
        ([], "working directory /proc/self/fd/7: "),  # it is closed, or one of ours by now
        (["--preserve-fds", "5"], "outside of the container"),  # it was meant to be there
    ):
        words = oci.command("run", *options, "-b", folder, "a")
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" 3</ 4</ 5</ 6</ 7</', "sh", *words],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert said in done.stderr.lower()
