"""A container's cgroups once it runs: who is in them, killing them all, removing them."""

import os
import time

from runtime.errors import RuntimeFailure
from runtime.freezer import thaw_quietly
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c

_PATIENCE_S = 10.0
_NAP_S = 0.0002


def folders(path: str) -> "list[str]":
    """Return a cgroup and those that the container made in it, the deepest first."""
    found: list[str] = []
    try:
        with os.scandir(path) as entries:
            inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return found
    for folder in inner:
        found += folders(folder)
    return [*found, path]


def members(cgroups: "dict[str, str]") -> "list[int]":
    """Return the processes in the container's cgroups, sorted, by the numbers of our namespace."""
    pids: set[int] = set()
    for top in dict.fromkeys(cgroups.values()):
        for path in folders(top):
            with tolerate(OSError), open(f"{path}/cgroup.procs", encoding="utf-8") as file:
                pids.update(int(line) for line in file if line.strip() != "0")
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
        for path in folders(top):
            _rmdir(path, deadline)


def _rmdir(path: str, deadline: float) -> None:
    while True:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as error:
            # EBUSY: the kernel is still taking the last process out.
            if time.monotonic() > deadline:
                raise RuntimeFailure(f"remove cgroup {path}: {error.strerror}") from error
            time.sleep(_NAP_S)
        else:
            return
