"""Attacks on the set-up of a container: each fails, and succeeds with its one guard switched off.

`unguarded` runs our command line with a change of the code that takes the guard away.
"""

import contextlib
import errno
import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

UNGUARDED = """
import os, sys
sys.path.append({project!r})
from runtime.command.main import leave, main
{change}
leave(main(sys.argv[1:]))
"""


@pytest.fixture
def unguarded(oci, project):
    """Return a function: unguarded(change, *words) is the command line after that change."""

    def command(change: str, *words: str | Path) -> list[str]:
        code = UNGUARDED.format(project=str(project), change=change)
        return [sys.executable, "-c", code, "--root", str(oci.root), *map(str, words)]

    return command


def quietly(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    return done.stdout


def write(folder: Path, spec: dict) -> None:
    (folder / "config.json").write_text(json.dumps(spec))


def read(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


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


SWAP = """
import ctypes, os, sys
os.chdir(sys.argv[1])
call = ctypes.CDLL(None).renameat2
while call(-100, b"a", -100, b"b", 2) == 0:  # neither is ever missing
    pass
"""


@contextlib.contextmanager
def swapped(volume: Path) -> Iterator[subprocess.Popen]:
    """Let another process swap a directory and a symlink in `volume` all the time."""
    swapping = subprocess.Popen([sys.executable, "-c", SWAP, volume])
    try:
        yield swapping
    finally:
        swapping.kill()
        swapping.wait()


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


NAIVE_READING = """
from runtime.launch import accounts
def naive(root, path, limit):
    with open(os.open(path, os.O_RDONLY, dir_fd=root), "rb") as file:
        return file.read()
accounts.read_regular = naive
"""


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


def open_when_somebody_reads(fifo: Path, seconds: float = 60) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO  # nobody yet
            time.sleep(0.01)
    pytest.fail("nobody opened it")


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
    off = "from runtime.launch import init; init.enter_working_directory = os.chdir"
    seen = quietly([*leak, *unguarded(off, *options, "b")])
    assert set(seen.split()) == {name for name in os.listdir("/") if not name.startswith(".")}
