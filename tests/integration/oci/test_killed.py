"""Killed with -9 at any moment: delete --force removes everything. Many containers at once."""

import glob
import os
import random
import select
import subprocess
from binascii import crc32
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel


def cgroups_of(runtime) -> list[str]:
    """Return the cgroups of the runtime's containers."""
    suffix = f"{crc32(os.fsencode(runtime.root / '.cache')):08x}"
    return glob.glob(f"/sys/fs/cgroup/**/pybuild-runtime-*-{suffix}", recursive=True)


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose root, or whose command line, is below `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                root = os.readlink(entry / "root")
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if root.startswith(str(folder)) or os.fsencode(folder) in words:
                found.append(int(entry.name))
    return found


LIVES = {
    "create": '"$@" create -b $0 a && "$@" start a && "$@" kill a 9; '
    'until "$@" delete a; do :; done',
    "run": '"$@" run -b $0 a',
}


@pytest.mark.parametrize("verb", LIVES)
def test_a_kill_at_any_moment(oci, bundle, rounds, tmp_path, verb):
    """The moments are spread over a whole life: create, start, kill, delete."""
    folder = bundle("sleep 1000")
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    for number in range(rounds(300, 12)):
        life = subprocess.Popen(
            ["sh", "-c", LIVES[verb], folder, *oci.command()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            life.wait(moments.uniform(0, 0.35 if verb == "create" else 0.15))
        except subprocess.TimeoutExpired:
            # The shell and the verb at work; the container's init has a session of its own.
            os.killpg(life.pid, 9)
            life.wait()
        oci("delete", "--force", "a")
        assert not (oci.root / "a").exists(), (seed, number)
        assert not cgroups_of(oci), (seed, number)
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text(), (seed, number)
    wait_until_gone(folder)


def wait_until_gone(folder: Path) -> None:
    """Who was killed may still be dying; what is never reaped fails the test by its time limit."""
    left = processes_of(folder)
    for pid in left:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        assert poller.poll(20_000), f"process {pid} lives on"
        os.close(fd)


def test_a_hundred_at_once(oci, bundle):
    folder = bundle("echo $$ ran")
    runs = [
        subprocess.Popen(
            oci.command("run", "-b", folder, f"c{number}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(100)
    ]
    ends = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0] * 100, {err for _, err in ends if err}
    assert {out for out, _ in ends} == {"1 ran\n"}
