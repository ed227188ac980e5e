"""Attacks on who enters a container: each fails, and succeeds with its one guard switched off."""

import errno
import os
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacking import NAIVE_READING, quietly

pytestmark = pytest.mark.kernel

# What somebody writes by mistake some day: it is found out because it cannot work.
LATE_IMPORT = """
from runtime.launch import joining
before = joining.account_of
def late(plan):
    try:
        import colorsys
    except ImportError:
        pass
    return before(plan)
joining.account_of = late
"""
# Descriptors 3 to 7 of the caller are the host's root directory.
LEAK = ("sh", "-c", 'exec "$@" 3</ 4</ 5</ 6</ 7</', "sh")
SWAPPING = """
cd /etc; while :; do
    ln -sf /proc/1/root/nowhere passwd; rm passwd; ln fifo passwd; rm passwd; ln -sf / passwd
    rm passwd; cp known passwd; rm passwd
done
"""


@pytest.fixture
def inside(oci, bundle) -> Iterator[None]:
    """Let container `a` run."""
    oci("run", "--detach", "-b", bundle("sleep 1000"), "a")
    yield
    oci("delete", "--force", "a")


def test_a_module_that_is_imported_late(inside, rootfs, unguarded):
    """The image has it where the interpreter of an exec would look."""
    folder = rootfs / Path(sysconfig.get_paths()["stdlib"]).relative_to("/")
    folder.mkdir(parents=True)
    (folder / "colorsys.py").write_text("open('/planted', 'w')\n")
    words = ("exec", "a", "echo", "ran")
    assert quietly(unguarded(LATE_IMPORT, *words)) == "ran\n"
    assert not (rootfs / "planted").exists()
    off = "joining.forget_imports = lambda: None"
    assert quietly(unguarded(LATE_IMPORT + off, *words)) == "ran\n"
    assert (rootfs / "planted").exists()


def test_a_working_directory_outside(oci, inside, unguarded):
    """CVE-2024-21626: a descriptor of the host's root, that somebody left open."""
    words = ("exec", "--preserve-fds", "5", "--cwd", "/proc/self/fd/7", "a", "ls")
    done = subprocess.run([*LEAK, *oci.command(*words)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (255, "")
    assert "outside of the container" in done.stderr
    off = "from runtime.launch import joining;"
    off += "joining.enter_if_allowed = lambda path: os.chdir(path) is None"
    seen = quietly([*LEAK, *unguarded(off, *words)])
    assert set(seen.split()) == {name for name in os.listdir("/") if not name.startswith(".")}


def test_a_descriptor_that_was_left_open(oci, inside, unguarded):
    words = ("exec", "a", "ls", "/proc/self/fd/7/")
    done = subprocess.run([*LEAK, *oci.command(*words)], capture_output=True, text=True)
    assert done.stdout == ""
    off = "from runtime.linux import process; process.close_range = lambda *_, **__: None"
    seen = quietly([*LEAK, *unguarded(off, *words)])
    assert set(seen.split()) == {name for name in os.listdir("/") if not name.startswith(".")}


def test_a_container_that_swaps_its_account_file(oci, bundle, rootfs, rounds, unguarded):
    """It turns into symlinks and a fifo and back, all the time, while processes enter."""
    (rootfs / "etc/known").write_text("app:x:1000:1000::/:/bin/sh\n")
    os.mkfifo(fifo := rootfs / "etc/fifo")
    oci("run", "--detach", "-b", bundle(SWAPPING), "a")
    before = sorted(os.listdir("/etc"))
    # A command that does not read the file itself, as id does.
    words = ("exec", "-u", "app", "a", "grep", "Uid:", "/proc/self/status")
    for number in range(rounds(200, 15)):
        done = oci(*words, check=False)
        # Sometimes there is no such user, but nobody waits for what is in a fifo.
        known = done.stdout.startswith("Uid:\t1000\t")
        assert known or "unable to find user app" in done.stderr, (number, done)
    assert any(is_held(unguarded(NAIVE_READING, *words), fifo) for _ in range(200))
    oci("delete", "--force", "a")
    assert sorted(os.listdir("/etc")) == before


def is_held(command: list[str], fifo: Path) -> bool:
    """Tell whether a command comes to wait for who writes into `fifo`, and let it go on."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as entering:
        while entering.poll() is None:
            try:
                os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            except OSError as error:
                assert error.errno == errno.ENXIO  # nobody
                time.sleep(0.001)
            else:
                return True
    return False
