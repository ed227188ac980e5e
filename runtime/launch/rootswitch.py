"""The switch of a container's first process from the host's root directory to its own."""

import errno
import os

from runtime.linux import constants as c
from runtime.linux import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import LaunchPlan

_FULL_VIEWS = (b"proc", b"sysfs")


def switch_root(plan: "LaunchPlan", root: int) -> None:
    """Make `root` the root directory and let go of the host's whole tree."""
    os.fchdir(root)
    if any(kind == c.CLONE_NEWNS for _, kind in plan["join"]):
        # The mounts are others' too: they keep their root.
        os.chroot(".")
        return
    if plan["no_pivot"]:
        _hide_full_views(os.fsencode(plan["anchor"]))
        m.mount(".", "/", None, c.MS_MOVE, None)
        os.chroot(".")
        os.chdir("/")
        return
    # pivot_root(".", ".") stacks the old root on top of the new one; see pivot_root(2), Notes.
    m.pivot_root(".", ".")
    m.umount2(".", c.MNT_DETACH)
    os.chdir("/")


def _hide_full_views(root: bytes) -> None:
    """Take the host's procfs and sysfs out of a namespace that keeps the host's mounts.

    The kernel lets a user namespace mount a new procfs, nothing of it masked, where one such is in
    its mount namespace, even below the directory that it cannot leave. Source: runc, msMoveRoot.
    """
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        rows = [line.split() for line in file.readall().splitlines()]
    for row in reversed(rows):
        point = row[4].replace(b"\\040", b" ").replace(b"\\011", b"\t").replace(b"\\012", b"\n")
        point = point.replace(b"\\134", b"\\")
        if row[row.index(b"-") + 1] not in _FULL_VIEWS or (point + b"/").startswith(root + b"/"):
            continue
        try:
            m.umount2(os.fsdecode(point), c.MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
            # Of another user namespace, so it stays: a mount over it makes it none that counts.
            m.mount("tmpfs", os.fsdecode(point), "tmpfs", 0, None)
