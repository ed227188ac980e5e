"""Pausing a container: the freezer of cgroup v1, or cgroup.freeze of v2."""

import os
import time

from runtime.errors import RuntimeFailure
from runtime.launch.tolerate import tolerate

_PATIENCE_S = 5.0


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def is_frozen(cgroups: "dict[str, str]") -> bool:
    """Tell whether the processes in a container's cgroups are stopped."""
    if "freezer" in cgroups:
        return _read(f"{cgroups['freezer']}/freezer.state").strip() in ("FROZEN", "FREEZING")
    return "frozen 1" in _read(f"{cgroups.get('unified', '')}/cgroup.events")


def holds_newcomers(cgroups: "dict[str, str]") -> bool:
    """Tell whether a cgroup, or one above where it is not there yet, stops who enters it."""
    for controller in ("freezer", "unified"):
        path = cgroups.get(controller, "")
        while path and not os.path.isdir(path):
            path = os.path.dirname(path)
        if path and is_frozen({controller: path}):
            return True
    return False


def freeze(cgroups: "dict[str, str]") -> None:
    """Stop every process in the cgroups, and return when they stand still.

    Raises RuntimeFailure where there is no freezer, or they do not stop.
    """
    _set(cgroups, frozen=True)
    deadline = time.monotonic() + _PATIENCE_S
    while not _stands_still(cgroups):
        if time.monotonic() > deadline:
            _set(cgroups, frozen=False)
            raise RuntimeFailure("freeze: the container's processes do not stop")
        # v1 stops only who was there when it was told to: a fork in between has to be told again.
        _set(cgroups, frozen=True)
        time.sleep(0.001)


def _stands_still(cgroups: "dict[str, str]") -> bool:
    if "freezer" in cgroups:
        return _read(f"{cgroups['freezer']}/freezer.state").strip() == "FROZEN"
    return "frozen 1" in _read(f"{cgroups['unified']}/cgroup.events")


def thaw(cgroups: "dict[str, str]") -> None:
    """Let the processes in the cgroups go on."""
    _set(cgroups, frozen=False)


def _set(cgroups: "dict[str, str]", *, frozen: bool) -> None:
    if "freezer" in cgroups:
        path, value = f"{cgroups['freezer']}/freezer.state", "FROZEN" if frozen else "THAWED"
    elif "unified" in cgroups:
        path, value = f"{cgroups['unified']}/cgroup.freeze", "1" if frozen else "0"
    else:
        raise RuntimeFailure("freeze: the container has no cgroup that can be frozen")
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(value)
    except OSError as error:
        raise RuntimeFailure(f"freeze: {path}: {error.strerror}") from error


def thaw_quietly(cgroups: "dict[str, str]") -> None:
    """Let killed processes run into their death; there may be none, and no freezer."""
    with tolerate(RuntimeFailure):
        if any(os.path.isdir(path) for path in cgroups.values()):
            thaw(cgroups)
