"""Whose a file is: on disk, or noted beside it where the disk cannot say.

With a single id every file on disk belongs to the one user, who stands for root. Other owners are
noted in an extended attribute; overlayfs copies it up with the file, and a commit writes into the
layer what it says. A symlink, a fifo and a device cannot have one: those are root's there.
"""

import contextlib
import os

from store import manner

NOTE = "user.pybuild.owner"


def give(target: int | str | bytes, uid: int, gid: int, *, dir_fd: int | None = None) -> None:
    """Make `uid`:`gid` the owner of a file: a path, whose last symlink is not followed, or open.

    Before the mode is set, as chown clears setuid bits. Raises OSError.
    """
    if not manner.current().all_owners:
        _note(target, uid, gid, dir_fd)
    elif isinstance(target, int):
        os.fchown(target, uid, gid)
    else:
        os.chown(target, uid, gid, dir_fd=dir_fd, follow_symlinks=False)


def owner_of(target: int | str | bytes, status: os.stat_result) -> tuple[int, int]:
    """Return user and group of what `target`, a path or an open file, is. status: its lstat."""
    if manner.current().all_owners:
        return status.st_uid, status.st_gid
    try:
        if isinstance(target, int):
            return _parsed(os.getxattr(target, NOTE))
        return _parsed(os.getxattr(target, NOTE, follow_symlinks=False))
    except OSError:
        return 0, 0


def taken_from(
    xattrs: tuple[tuple[bytes, bytes], ...], status: os.stat_result
) -> tuple[int, int, tuple[tuple[bytes, bytes], ...]]:
    """Return user, group and the rest of the xattrs of a file that has all these on disk."""
    if manner.current().all_owners:
        return status.st_uid, status.st_gid, xattrs
    uid, gid = _parsed(dict(xattrs).get(NOTE.encode(), b""))
    return uid, gid, tuple(pair for pair in xattrs if pair[0] != NOTE.encode())


def is_note(name: str) -> bool:
    """Tell whether an extended attribute is ours alone, and no part of a layer."""
    return name == NOTE and not manner.current().all_owners


def _parsed(value: bytes) -> tuple[int, int]:
    uid, _, gid = value.partition(b":")
    return (int(uid), int(gid)) if uid.isdigit() and gid.isdigit() else (0, 0)


def _note(target: int | str | bytes, uid: int, gid: int, dir_fd: int | None) -> None:
    if dir_fd is not None and not isinstance(target, int):
        target = f"/proc/self/fd/{dir_fd}/{os.fsdecode(target)}"
    # What cannot bear it (a symlink, a file system without such attributes) is root's.
    with contextlib.suppress(OSError):
        value = b"%d:%d" % (uid, gid)
        if isinstance(target, int):
            os.setxattr(target, NOTE, value) if uid or gid else os.removexattr(target, NOTE)
        elif uid or gid:
            os.setxattr(target, NOTE, value, follow_symlinks=False)
        else:
            os.removexattr(target, NOTE, follow_symlinks=False)
