"""Whether a new /proc can be mounted: in a container whose own is masked the kernel forbids it.

Source: the kernel's mount_too_revealing(): a new procfs may show root of a user namespace no more
than one that is mounted already.
"""

import os

from runtime.rootless.mode import Mode, Reason
from values.classes import replace

# Directories of procfs that are always empty: a mount there hides nothing.
_EMPTY = frozenset({"/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"})
_SHOWN = 3
_REMEDY = (
    "in docker: --security-opt systempaths=unconfined, in podman: --security-opt unmask=ALL, in "
    "Kubernetes: procMount: Unmasked"
)


def with_proc(found: Mode) -> Mode:
    """Return the mode of root of a user namespace, which says whether a /proc can be mounted.

    Only in a process of a single thread: where there is a doubt it is tried in a child.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        hidden = hidden_places(file.read())
    if not hidden or _can_mount():
        return found
    return replace(found, own_proc=False, reasons=(*found.reasons, _reason(hidden)))


def hidden_places(mountinfo: str) -> "list[str]":
    """Return what is mounted inside /proc, in order, but for what hides nothing."""
    points = {line.split(" ", 5)[4] for line in mountinfo.splitlines()}
    return sorted(point for point in points - _EMPTY if point.startswith("/proc/"))


def _reason(hidden: "list[str]") -> Reason:
    places = ", ".join(hidden[:_SHOWN]) + (", …" if len(hidden) > _SHOWN else "")
    return Reason(f"no new /proc can be mounted: that of this container hides {places}", _REMEDY)


def _can_mount() -> bool:
    """Mount one, seen by nobody, in a pid namespace of a process that ends with it."""
    from runtime.linux import constants as c
    from runtime.linux.mount import make_detached
    from runtime.linux.namespaces import unshare

    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    failed = 1
    try:
        unshare(c.CLONE_NEWPID)
        inner = os.fork()
        if inner:
            failed = os.waitpid(inner, 0)[1]
        else:
            make_detached("proc", "proc", [], 0)
            failed = 0
    finally:
        os._exit(bool(failed))
