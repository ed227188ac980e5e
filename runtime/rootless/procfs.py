"""Whether a new /proc can be mounted: in a container whose own is masked the kernel forbids it.

Source: the kernel's mount_too_revealing(): a new procfs may show root of a user namespace no more
than one that is mounted already.
"""

import errno
import os

from runtime.rootless.mode import Mode, Reason
from runtime.rootless.trial import works_in_child
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
    if not hidden or works_in_child(_mount_in_pid_namespace):
        return found
    return replace(found, own_proc=False, reasons=(*found.reasons, _reason(hidden)))


def hidden_places(mountinfo: str) -> "list[str]":
    """Return what is mounted inside /proc, in order, but for what hides nothing."""
    points = {line.split(" ", 5)[4] for line in mountinfo.splitlines()}
    return sorted(point for point in points - _EMPTY if point.startswith("/proc/"))


def _reason(hidden: "list[str]") -> Reason:
    places = ", ".join(hidden[:_SHOWN]) + (", …" if len(hidden) > _SHOWN else "")
    return Reason(f"no new /proc can be mounted: that of this container hides {places}", _REMEDY)


def _mount_in_pid_namespace() -> None:
    """Mount one that nobody sees, in a pid namespace whose one process ends with it."""
    from runtime.linux import constants as c
    from runtime.linux.mount import make_detached
    from runtime.linux.namespaces import unshare

    unshare(c.CLONE_NEWPID)
    if not works_in_child(lambda: os.close(make_detached("proc", "proc", [], 0))):
        raise OSError(errno.EPERM, "no procfs can be mounted")
