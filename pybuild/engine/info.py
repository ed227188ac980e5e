"""What there is to know about this installation, its host and its store."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pybuild.engine.core import disk_of
from pybuild.engine.records import load_all

if TYPE_CHECKING:
    from store.root import Store


def own_version() -> str:
    """Return the version of pybuild that runs."""
    from importlib.metadata import PackageNotFoundError, version  # 9 ms, for two verbs

    try:
        return version("pybuild")
    except PackageNotFoundError:
        return "unknown (not installed)"


def versions() -> dict[str, str]:
    """Return the versions of what takes part, by name."""
    return {
        "pybuild": own_version(),
        "python": sys.version.split()[0],
        "kernel": os.uname().release,
        "platform": host_platform(),
    }


def host_platform() -> str:
    """Return the host's platform in image-spec words: linux/amd64."""
    from store.platforms import host

    return str(host())


def cgroup_version() -> str:
    """Return which cgroup hierarchy the host has: v2, v1, or none."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return "v2"
    with open("/proc/self/cgroup") as lines:
        return "v1" if any(line.split(":")[1] for line in lines) else "none"


_MODES = {
    "root": "root",
    "subordinate": "rootless, with subordinate ids",
    "single": "rootless, with a single id",
    "chroot": "root without mounts and namespaces",
    "none": "no root, no mounts, no namespaces",
}


def ability(root: str) -> dict[str, object]:
    """Return how layers and containers are made here, and what would allow more."""
    from runtime.rootless.entering import mode
    from runtime.rootless.probe import can_overlay

    found = mode()
    rows: dict[str, object] = {"mode": _MODES[found.kind]}
    if found.reasons:
        rows["because"] = "; ".join(map(str, found.reasons))
    if found.may_mount and os.path.isdir(root) and not can_overlay(root):
        rows["overlay"] = "cannot be mounted in this store: steps work on copies"
    if found.kind in ("subordinate", "single"):
        rows["network"] = _network()
        rows["limits"] = _limits()
    return rows


def _network() -> str:
    from runtime.network.choice import choose
    from runtime.network.modes import NetworkMode

    choice = choose(NetworkMode())
    words = [choice.kind, f"({choice.program})"] if choice.program else [choice.kind]
    why = "; ".join(map(str, choice.reasons))
    return " ".join(words) + (f": {why}" if why else "")


def _limits() -> str:
    from runtime.rootless.delegation import delegated_parent

    where = delegated_parent()
    if where is not None:
        return f"in cgroup {where}"
    return "none: no cgroup v2 is handed to this user (systemd-run --user --scope -p Delegate=yes)"


def described(root: str, store: Store) -> dict[str, object]:
    """Return what `info` says, in the order in which it says it.

    root: where the store is to be; `store` is an empty one as long as there is none.
    """
    return {
        **versions(),
        "interpreter": sys.executable,
        "root": root,
        "free_bytes": disk_of(root)[0],
        "images": len(store.images.ids()),
        "containers": len(load_all(store)),
        **ability(root),
        "cgroups": cgroup_version(),
        "processors": len(os.sched_getaffinity(0)),
    }
