"""Whether overlays can be mounted in a folder: tried, where there is a doubt."""

import os

from runtime.errors import RuntimeFailure
from runtime.mounting import open_overlay
from runtime.rootless.entering import mode
from store import manner
from store.mount import OverlayMount
from store.trash import delete_tree
from store.usernamespace import in_first_user_namespace

# An upper directory on these has worked for as long as overlayfs is there.
_KNOWN_GOOD = frozenset({"ext4", "xfs", "btrfs", "ext3", "ext2", "f2fs", "tmpfs", "zfs"})


def can_overlay(folder: str) -> bool:
    """Tell whether we can mount overlays whose directories are in `folder`, which exists."""
    if not mode().may_mount:
        return False
    first = in_first_user_namespace()
    return (first and file_system_of(folder) in _KNOWN_GOOD) or _tried(folder)


def file_system_of(folder: str) -> str:
    """Return the type of the file system that holds `folder`, "" where it is not to be found."""
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            if left.split()[2] == wanted:
                return right.split()[0]
    return ""


def _tried(folder: str) -> bool:
    """Mount one, delete a directory in it and make it anew: both of overlay's marks are needed."""
    place = f"{folder}/tmp/{os.urandom(12).hex()}"
    marks = manner.current().marks
    os.mkdir(place, 0o700)
    try:
        for name in ("lower", "lower/x", "upper", "work"):
            os.mkdir(f"{place}/{name}")
        mount = OverlayMount(place, ("lower",), "upper", "work", user_marks=marks == "user")
        root = open_overlay(mount)
        try:
            os.rmdir("x", dir_fd=root)
            os.mkdir("x", dir_fd=root)
        finally:
            os.close(root)
        os.getxattr(f"{place}/upper/x", f"{marks}.overlay.opaque")
    except (OSError, RuntimeFailure):
        return False
    else:
        return True
    finally:
        delete_tree(place)
