"""Mount points that were made are taken away again: never by following what the container left."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import launcher
from runtime.execution import Bind

pytestmark = pytest.mark.kernel

# As if the container had left its directories as they were.
NAIVE_REMOVAL = """
import os
from runtime.launch import parent
def naive(root, made):
    for path, *_ in reversed(made):
        try:
            os.rmdir(path, dir_fd=root)
        except OSError:
            pass
parent.remove_stubs = naive
"""


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return an empty folder of the host, called as the mount point is."""
    path = tmp_path / "victim/inner"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def bind(tmp_path: Path) -> Bind:
    (tmp_path / "folder").mkdir()
    return Bind(str(tmp_path / "folder"), "/top/inner")


@pytest.fixture
def unguarded(monkeypatch) -> None:
    """Let the launchers of this test remove mount points by their path."""
    code = launcher._CODE.replace("from runtime", f"\n{NAIVE_REMOVAL}\nfrom runtime", 1)
    assert code != launcher._CODE
    monkeypatch.setattr(launcher, "_CODE", code)


def replaced(victim: Path) -> str:
    """Return a script that puts a symlink to the host in the place of the mount point's parent.

    What is mounted on cannot be renamed, the directory around it can.
    """
    return f"busybox mv /top /moved; busybox ln -s {shlex.quote(str(victim.parent))} /top"


def swapping(victim: Path) -> str:
    """Return a script that does so and undoes it all the time, until it is killed."""
    once = f"{replaced(victim)}; busybox rm /top; busybox mv /moved /top"
    return f"(while :; do {once}; done) & busybox usleep 3000"


def rounds_of(run, snapshot, bind, victim, count: int) -> Iterator[int]:
    """Run such a container `count` times, each in a directory where nothing was made yet."""
    for number in range(count):
        for entry in snapshot.upper.iterdir():
            entry.unlink() if entry.is_symlink() else shutil.rmtree(entry)
        run(swapping(victim), binds=(bind,))
        yield number


def test_a_symlink_is_not_followed(run, bind, victim):
    run(replaced(victim), binds=(bind,))
    assert victim.is_dir()


def test_a_symlink_is_followed_without_the_guard(run, bind, victim, unguarded):
    run(replaced(victim), binds=(bind,))
    assert not victim.exists()


def test_a_container_that_swaps_until_its_end(run, snapshot, bind, victim, rounds):
    for number in rounds_of(run, snapshot, bind, victim, rounds(200, 15)):
        assert victim.is_dir(), number


def test_a_container_that_swaps_reaches_the_host_without_the_guard(
    run, snapshot, bind, victim, unguarded
):
    seen = rounds_of(run, snapshot, bind, victim, 200)
    assert any(not victim.exists() for _ in seen), "without its guard nothing happens either"
