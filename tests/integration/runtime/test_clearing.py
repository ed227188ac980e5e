"""When execute returns, the snapshot is nobody's any more."""

import contextlib
import errno
import glob
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processtable import is_running

from runtime.linux.mount import make_detached

pytestmark = pytest.mark.kernel


def test_the_upper_directory_is_free_at_once(run, snapshot, rounds):
    """With index=on the kernel refuses an upper directory that another overlay still uses."""
    for _ in range(rounds(200, 10)):
        assert run("(sleep 77 &); exec 9>/x; sleep 88 & true").code == 0
        # The work directory's own folder, so that the index of this check stays out of the way.
        (snapshot.base / "check").mkdir(exist_ok=True)
        options = [
            ("lowerdir", str(snapshot.layer)),
            ("upperdir", str(snapshot.upper)),
            ("workdir", str(snapshot.base / "check")),
            ("index", "on"),
        ]
        try:
            os.close(make_detached("overlay", "overlay", options, 0))
        except OSError as error:
            assert error.errno != errno.EBUSY, "the container's mount still holds the directory"
            raise


CALLER = """
import sys
from runtime.executor import Execution, execute
from store.mount import OverlayMount
base, marker = sys.argv[1:]
mount = OverlayMount(base, ("busybox", "stubs"))
print("up", flush=True)
while True:
    execute(Execution(mount, ("sleep", marker), env=("PATH=/bin",)))
"""


def with_word(word: str) -> list[str]:
    """Return the commands on this host, zombies excepted, that hold `word`."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and word.encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
    return found


def children(pid: int) -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def until(condition, what):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["caller", "launcher"])
def test_a_kill_at_any_moment_leaves_nothing(snapshot, project, rounds, victim):
    """kill -9 somewhere between the start of the launcher and the running command."""
    marker = f"53{os.getpid()}"
    chance = random.Random(7)
    for number in range(rounds(200, 8)):
        caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, str(snapshot.base), marker],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=project,
        )
        assert caller.stdout.readline() == b"up\n"
        until(lambda pid=caller.pid: children(pid), "the launcher starts")
        (launcher,) = children(caller.pid)
        time.sleep(chance.random() * 0.03)
        inits = children(launcher)
        os.kill(caller.pid if victim == "caller" else launcher, signal.SIGKILL)
        caller.wait()  # with its launcher gone the caller raises and ends
        caller.stdout.close()
        for pid in (launcher, *inits):
            until(lambda pid=pid: not is_running(pid), f"round {number}: {pid} left")
        until(lambda: not [p for p in with_word(marker) if int(p) != os.getpid()], "command left")
        left = glob.glob(f"/sys/fs/cgroup/**/pybuild/{caller.pid}-*", recursive=True)
        assert not left
