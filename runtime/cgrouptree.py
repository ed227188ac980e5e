"""A container's cgroups once it runs: who is in them, killing them all, removing them."""

import os
import time

from runtime.errors import RuntimeFailure
from runtime.freezer import thaw_quietly
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE_S = 10.0
_NAP_S = 0.0002
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _inner(folder: int) -> "list[str]":
    with tolerate(OSError), os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []  # it is gone


def _below(top: str) -> "Iterator[tuple[int, str]]":
    """Yield the cgroups that the container made in one, the deepest first.

    As (a descriptor of the one around it, its name), and without recursion: a container may go
    deeper than any path can name. Raises OSError where `top` is gone.
    """
    here = os.open(top, _FOLDER)
    names: list[str] = []
    todo = [_inner(here)]
    try:
        while names or todo[-1]:
            down = todo[-1].pop() if todo[-1] else ""
            try:
                there = os.open(down or "..", _FOLDER, dir_fd=here)
            except FileNotFoundError:
                if not down:
                    raise
                continue  # removed from inside
            os.close(here)
            here = there
            if down:
                names.append(down)
                todo.append(_inner(here))
            else:
                todo.pop()
                yield here, names.pop()
    finally:
        os.close(here)


def _processes(folder: int | None, name: str) -> "set[int]":
    """Return who is in the cgroup `name`, of `folder` where that is not None."""
    with tolerate(OSError):  # gone, or of a kind that has threads only: its root shows those
        fd = os.open(f"{name}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        with open(fd, encoding="utf-8") as file:
            return {int(line) for line in file if line.strip() != "0"}
    return set()


def members(cgroups: "dict[str, str]") -> "list[int]":
    """Return the processes in the container's cgroups, sorted, by the numbers of our namespace."""
    pids: set[int] = set()
    for top in dict.fromkeys(cgroups.values()):
        pids |= _processes(None, top)
        with tolerate(FileNotFoundError):
            for folder, name in _below(top):
                pids |= _processes(folder, name)
    return sorted(pids)


def kill_all(cgroups: "dict[str, str]", number: int = c.SIGKILL) -> None:
    """Signal every process in the cgroups; with SIGKILL until there is none."""
    deadline = time.monotonic() + _PATIENCE_S
    while pids := members(cgroups):
        for pid in pids:
            with tolerate(ProcessLookupError):
                os.kill(pid, number)
        if number != c.SIGKILL:
            return
        thaw_quietly(cgroups)
        if time.monotonic() > deadline:
            raise RuntimeFailure(f"kill: processes {pids} do not die")
        time.sleep(0.002)


def remove(cgroups: "dict[str, str]") -> None:
    """Remove the cgroups, empty by now. Raises RuntimeFailure where that cannot be done."""
    deadline = time.monotonic() + _PATIENCE_S
    for top in dict.fromkeys(cgroups.values()):
        with tolerate(FileNotFoundError):
            for folder, name in _below(top):
                _rmdir(name, folder, deadline)
        _rmdir(top, None, deadline)


def _rmdir(path: str, folder: int | None, deadline: float) -> None:
    while True:
        try:
            os.rmdir(path, dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError as error:
            # EBUSY: the kernel is still taking the last process out.
            if time.monotonic() > deadline:
                raise RuntimeFailure(f"remove cgroup {path}: {error.strerror}") from error
            time.sleep(_NAP_S)
        else:
            return
