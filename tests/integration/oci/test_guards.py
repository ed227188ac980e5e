"""Attacks on the set-up of a container: each fails, and succeeds with its one guard off."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.attacking import (
    NAIVE_READING,
    open_when_somebody_reads,
    quietly,
    read,
    swapped,
    write,
)

pytestmark = pytest.mark.kernel

# What somebody writes by mistake some day: it is found out because it cannot work.
LATE_IMPORT = """
from runtime.launch import init
before = init.account_of
def late(plan):
    try:
        import colorsys
    except ImportError:
        pass
    return before(plan)
init.account_of = late
"""


def test_a_module_that_is_imported_late(oci, bundle, rootfs, unguarded):
    """CVE-2019-14271's class: it lies where the interpreter would look, inside the image."""
    folder = rootfs / Path(sysconfig.get_paths()["stdlib"]).relative_to("/")
    folder.mkdir(parents=True)
    (folder / "colorsys.py").write_text("open('/planted', 'w')\n")
    words = ("run", "-b", bundle("echo ran"), "a")
    assert quietly(unguarded(LATE_IMPORT, *words)) == "ran\n"
    assert not (rootfs / "planted").exists()
    off = "init.forget_imports = lambda: None"
    assert quietly(unguarded(LATE_IMPORT + off, *words)) == "ran\n"
    assert (rootfs / "planted").exists()


# Paths of the image as any program opens them.
NAIVE_PATHS = """
from runtime.launch import filesystem, stubs
def naive(root, path, flags, follow=True):
    return os.open(path.lstrip("/") or ".", flags | os.O_CLOEXEC, dir_fd=root)
filesystem.open_in_root = stubs.open_in_root = naive
stubs._followed = lambda root, parts, path: parts
"""


@pytest.mark.parametrize("link", ["/", "../../../../../../../../..", "/proc/self/root", "{host}"])
def test_a_symlink_as_a_mount_point(oci, bundle, rootfs, tmp_path, unguarded, link):
    """CVE-2021-30465: the image's symlink decides where a mount goes, but never out."""
    host = tmp_path / "host"
    host.mkdir()
    (rootfs / "way").symlink_to(link.replace("{host}", str(host)))
    folder = bundle("true")
    spec = read(folder)
    spec["mounts"].append({"destination": f"/way{host}/x", "type": "tmpfs", "source": "x"})
    write(folder, spec)
    oci("run", "-b", folder, "a", check=False)
    assert os.listdir(host) == []
    quietly(unguarded(NAIVE_PATHS, "run", "-b", folder, "b"))
    assert os.listdir(host) != []


def test_a_volume_that_is_swapped_while_it_is_mounted(oci, bundle, tmp_path, rounds, unguarded):
    """Another container has the volume and swaps a symlink to the host's root all the time."""
    volume, host = tmp_path / "volume", tmp_path / "host"
    (volume / "a").mkdir(parents=True)
    host.mkdir()
    (volume / "b").symlink_to(host)
    folder = bundle("true")
    spec = read(folder)
    spec["mounts"] += [
        {"destination": "/v", "type": "bind", "source": str(volume), "options": ["rbind"]},
        {"destination": "/v/a/x", "type": "tmpfs", "source": "x"},
    ]
    write(folder, spec)
    with swapped(volume) as swapping:
        for _ in range(rounds(200, 15)):
            oci("run", "-b", folder, "a", check=False)
            assert os.listdir(host) == []
        assert swapping.poll() is None
        for number in range(200):
            quietly(unguarded(NAIVE_PATHS, "run", "-b", folder, f"b{number}"))
            if os.listdir(host):
                return
    pytest.fail("without its guard nothing happens either")


@pytest.fixture
def asks_for_home(bundle) -> Path:
    folder = bundle("true", process={"env": ["PATH=/bin"]})
    spec = read(folder)
    spec["process"]["args"] = ["sh", "-c", "echo $HOME"]
    write(folder, spec)
    return folder


@pytest.mark.parametrize("kind", ["fifo", "device", "endless"])
def test_what_is_no_account_file(oci, asks_for_home, rootfs, kind):
    (rootfs / "etc/passwd").unlink()
    if kind == "fifo":
        os.mkfifo(rootfs / "etc/passwd")
    elif kind == "device":
        os.mknod(rootfs / "etc/passwd", 0o20666, os.makedev(1, 5))
    else:
        (rootfs / "etc/passwd").symlink_to("/dev/zero")
    assert oci("run", "-b", asks_for_home, "a").stdout == "/\n"


def test_a_fifo_that_is_taken_for_an_account_file(asks_for_home, rootfs, unguarded):
    """It holds the one who opens it until somebody writes, and he believes what that one says."""
    (rootfs / "etc/passwd").unlink()
    os.mkfifo(rootfs / "etc/passwd")
    command = unguarded(NAIVE_READING, "run", "-b", asks_for_home, "a")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hanging:
        writer = open_when_somebody_reads(rootfs / "etc/passwd")
        os.write(writer, b"root:x:0:0::/chosen:/bin/sh\n")
        os.close(writer)
        assert hanging.communicate()[0] == "/chosen\n"


def test_a_device_that_is_taken_for_an_account_file(asks_for_home, rootfs, unguarded):
    """Opening a device does something: /dev/ptmx makes a terminal."""
    (rootfs / "etc/passwd").unlink()
    os.mknod(rootfs / "etc/passwd", 0o20666, os.makedev(1, 5))  # endless zeros
    change = NAIVE_READING.replace("file.read()", "b'root:x:0:0::/read%d:/' % file.read(1)[0]")
    assert quietly(unguarded(change, "run", "-b", asks_for_home, "a")) == "/read0\n"


def test_another_null_device_for_the_masks(oci, bundle, rootfs, unguarded):
    """CVE-2025-31133: what the image has as /dev/null is mounted over what is to be hidden."""
    folder = bundle("cat /proc/keys")
    spec = read(folder)
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] != "/dev"]
    spec["mounts"] = [m for m in spec["mounts"] if not m["destination"].startswith("/dev/")]
    spec["linux"]["maskedPaths"] = ["/proc/keys"]
    write(folder, spec)
    (rootfs / "dev").mkdir()
    (rootfs / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    done = oci("run", "-b", folder, "a", check=False)
    assert done.returncode == 1
    assert "dev/null" in done.stderr
    off = """
from runtime.launch.filesystem import Filesystem
from runtime.launch.resolve import open_in_root
Filesystem._null = lambda self: open_in_root(self.root, "dev/null", os.O_PATH)
"""
    seen = quietly(unguarded(off, "run", "-b", folder, "b"))
    assert seen == Path("/proc/sys/kernel/core_pattern").read_text()


def test_a_working_directory_outside(oci, bundle, unguarded):
    """CVE-2024-21626: a descriptor of the host's root, that somebody left open."""
    folder = bundle("ls")
    spec = read(folder)
    spec["process"]["cwd"] = "/proc/self/fd/7"
    write(folder, spec)
    options = ["run", "--preserve-fds", "5", "-b", folder]
    leak = ["sh", "-c", 'exec "$@" 3</ 4</ 5</ 6</ 7</', "sh"]
    done = subprocess.run([*leak, *oci.command(*options, "a")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "outside of the container" in done.stderr
    off = "from runtime.launch import process; process.enter_working_directory = os.chdir"
    seen = quietly([*leak, *unguarded(off, *options, "b")])
    assert set(seen.split()) == {name for name in os.listdir("/") if not name.startswith(".")}


def test_a_file_over_one_of_proc(oci, bundle, tmp_path, unguarded):
    """What the kernel says of itself could be forged, and what we write there led astray."""
    (tmp_path / "forged").write_text("forged\n")
    folder = bundle("cat /proc/version")
    spec = read(folder)
    mount = {"type": "bind", "source": str(tmp_path / "forged"), "options": ["bind"]}
    spec["mounts"].append({"destination": "/proc/version", **mount})
    write(folder, spec)
    done = oci("run", "-b", folder, "a", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing may be mounted on or inside /proc" in done.stderr
    off = "from runtime.launch import filesystem\n"
    off += "class Every:\n    __contains__ = lambda self, path: True\n"
    off += "filesystem._PROC_FILES = Every()"
    assert quietly(unguarded(off, "run", "-b", folder, "b")) == "forged\n"


def test_a_directory_that_is_taken_for_proc(oci, bundle, rootfs, unguarded):
    """CVE-2025-52881's class: what we write about the process goes where the image wants it."""
    folder = bundle("cat /written; cat /kernel/self/oom_score_adj", process={"oomScoreAdj": 500})
    spec = read(folder)
    spec["process"]["args"] = ["sh", "-c", "cat /written /kernel/self/oom_score_adj"]
    (proc,) = [mount for mount in spec["mounts"] if mount["destination"] == "/proc"]
    proc["destination"] = "/kernel"
    spec["process"]["oomScoreAdj"] = 500
    write(folder, spec)
    (rootfs / "proc/self").mkdir(parents=True)
    (rootfs / "proc/self/oom_score_adj").symlink_to("/written")
    (rootfs / "written").touch()
    assert oci("run", "-b", folder, "a").stdout == "500\n"
    off = """
from runtime.linux import mount
made = mount.make_detached
def in_the_image(kind, *more):
    after_all_mounts = not os.path.exists("/usr")
    return os.open("/proc", os.O_PATH) if after_all_mounts else made(kind, *more)
mount.make_detached = in_the_image
"""
    assert quietly(unguarded(off, "run", "-b", folder, "b")).startswith("5000\n")


NAIVE_CONSOLE = """
from runtime.launch.filesystem import Filesystem
def naive(self, terminal):
    dev = os.open("dev", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.root)
    os.close(os.open("console", os.O_CREAT | os.O_WRONLY, 0o620, dir_fd=dev))
Filesystem.show_terminal = naive
"""


def test_a_console_that_leads_to_the_host(oci, bundle, rootfs, tmp_path, unguarded):
    """CVE-2025-52565's class: /dev is the image's own, and /dev/console a symlink."""
    folder = bundle("true")
    spec = read(folder)
    spec["process"]["terminal"] = True
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] != "/dev"]
    write(folder, spec)
    (rootfs / "dev").mkdir()
    (rootfs / "dev/console").symlink_to(host := tmp_path / "host")
    done = oci("run", "-b", folder, "a", check=False)
    assert (done.returncode, host.exists()) == (1, False)
    assert "dev/console" in done.stderr
    quietly(unguarded(NAIVE_CONSOLE, "run", "-b", folder, "b"))
    assert host.exists()


def test_a_masked_path_that_is_swapped(oci, bundle, rootfs, tmp_path, rounds, unguarded):
    """CVE-2025-31133's class: who has the volume lets the mask fall on another path."""
    volume = tmp_path / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "a/secret").write_text("seen\n")
    (volume / "b").symlink_to("/nowhere")
    folder = bundle("cat /v/a/secret /v/b/secret 2>/dev/null; :")
    spec = read(folder)
    spec["mounts"] += [
        {"destination": "/v", "type": "bind", "source": str(volume), "options": ["rbind"]}
    ]
    spec["linux"]["maskedPaths"] = ["/v/a/secret"]
    write(folder, spec)
    with swapped(volume):
        for _ in range(rounds(200, 10)):
            assert oci("run", "-b", folder, "a", check=False).stdout == ""
        leaks = (quietly(unguarded(NAIVE_PATHS, "run", "-b", folder, f"b{n}")) for n in range(200))
        assert "seen\n" in leaks
