"""The cgroup v2 tree that an ordinary user may fill: the one that was handed to him."""

import os

from runtime.launch.cgroupfiles import hierarchies

_OURS = ("", "cgroup.procs", "cgroup.subtree_control")


def delegated_parent() -> str | None:
    """Return the topmost cgroup above our own that is ours to fill, as a path in the v2 tree.

    Our own does not count: it has processes, and a cgroup with processes hands no limits down.
    None where nothing was delegated. Source: cgroup-v2.rst, "Delegation".
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        root = hierarchies(file.read()).get("unified")
    own = _own_cgroup()
    if root is None or own is None:
        return None
    found, path = None, os.path.dirname(own)
    while path not in ("", "/") and _is_ours(root + path):
        found, path = path, os.path.dirname(path)
    return found


def _own_cgroup() -> str | None:
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.startswith("0::/"):
                return line[3:].rstrip("\n")
    return None


def _is_ours(folder: str) -> bool:
    return all(os.access(os.path.join(folder, name), os.W_OK) for name in _OURS)
