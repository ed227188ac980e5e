"""Whose a file is, and what its mode: on disk, or noted beside it where the disk cannot say.

With a single id every file on disk belongs to the one user, who stands for root. Other owners are
noted on it (`ownernote`); overlayfs copies the note up with the file, and a commit writes into the
layer what it says.
"""

import contextlib
import os
import stat

from store import manner
from store.ownernote import (
    MODE_NOTE,
    NOTE,
    from_atime_ns,
    from_mode_note,
    from_note,
    to_atime_ns,
    to_mode_note,
    to_note,
)


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


def note_in_times(target: str | bytes, uid: int, gid: int, *, dir_fd: int | None = None) -> None:
    """Note the owner of what bears no attributes anew, after its times were set. Raises OSError."""
    if not manner.current().all_owners:
        status = os.stat(target, dir_fd=dir_fd, follow_symlinks=False)
        if not _bears_xattrs(status):
            _note_in_times(target, uid, gid, dir_fd, status)


def set_mode(target: int | str | bytes, mode: int, *, dir_fd: int | None = None) -> None:
    """Set the mode of a file that is no symlink: a path, or open. Raises OSError."""
    if manner.may_override_modes():
        os.chmod(target, mode, dir_fd=dir_fd)
        return
    status = os.stat(target, dir_fd=dir_fd)
    needed = {stat.S_IFDIR: 0o700, stat.S_IFREG: 0o600}.get(stat.S_IFMT(status.st_mode), 0)
    os.chmod(target, mode | needed, dir_fd=dir_fd)
    if dir_fd is not None and not isinstance(target, int):
        target = f"/proc/self/fd/{dir_fd}/{os.fsdecode(target)}"
    with contextlib.suppress(OSError):  # no such attributes here, or none to remove
        if mode | needed != mode:
            os.setxattr(target, MODE_NOTE, to_mode_note(mode, mode | needed))
        elif needed:
            os.removexattr(target, MODE_NOTE)


def mode_of(target: int | str | bytes, status: os.stat_result) -> int:
    """Return the permission bits of what `target`, a path or an open file, is. status: lstat."""
    on_disk = stat.S_IMODE(status.st_mode)
    if manner.current().all_owners or not _bears_xattrs(status):
        return on_disk
    try:
        return from_mode_note(os.getxattr(target, MODE_NOTE), on_disk)
    except OSError:
        return on_disk


def owner_of(target: int | str | bytes, status: os.stat_result) -> tuple[int, int]:
    """Return user and group of what `target`, a path or an open file, is. status: its lstat."""
    if manner.current().all_owners:
        return status.st_uid, status.st_gid
    if not _bears_xattrs(status):
        return from_atime_ns(status.st_atime_ns)
    try:
        if isinstance(target, int):
            return from_note(os.getxattr(target, NOTE))
        return from_note(os.getxattr(target, NOTE, follow_symlinks=False))
    except OSError:
        return 0, 0


def taken_from(
    xattrs: tuple[tuple[bytes, bytes], ...], status: os.stat_result
) -> tuple[int, int, int, tuple[tuple[bytes, bytes], ...]]:
    """Return mode, user, group and the rest of the xattrs of a file that has all these on disk."""
    mode = stat.S_IMODE(status.st_mode)
    if manner.current().all_owners:
        return mode, status.st_uid, status.st_gid, xattrs
    if not _bears_xattrs(status):
        return mode, *from_atime_ns(status.st_atime_ns), xattrs
    noted = dict(xattrs)
    mode = from_mode_note(noted.get(MODE_NOTE.encode(), b""), mode)
    uid, gid = from_note(noted.get(NOTE.encode(), b""))
    return mode, uid, gid, tuple(pair for pair in xattrs if not is_note(os.fsdecode(pair[0])))


def is_note(name: str) -> bool:
    """Tell whether an extended attribute is ours alone, and no part of a layer."""
    return name in (NOTE, MODE_NOTE) and not manner.current().all_owners


def _bears_xattrs(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _note(target: int | str | bytes, uid: int, gid: int, dir_fd: int | None) -> None:
    if isinstance(target, int):
        # A file system without such attributes has no owners but root.
        with contextlib.suppress(OSError):
            _set_note(target, uid, gid)
        return
    status = os.stat(target, dir_fd=dir_fd, follow_symlinks=False)
    if not _bears_xattrs(status):
        _note_in_times(target, uid, gid, dir_fd, status)
        return
    if dir_fd is not None:
        target = f"/proc/self/fd/{dir_fd}/{os.fsdecode(target)}"
    with contextlib.suppress(OSError):
        _set_note(target, uid, gid)


def _note_in_times(
    target: str | bytes, uid: int, gid: int, dir_fd: int | None, status: os.stat_result
) -> None:
    if from_atime_ns(status.st_atime_ns) != (uid, gid):
        times = to_atime_ns(uid, gid, status.st_mtime_ns), status.st_mtime_ns
        os.utime(target, ns=times, dir_fd=dir_fd, follow_symlinks=False)


def _set_note(target: int | str | bytes, uid: int, gid: int) -> None:
    follow = isinstance(target, int)
    if uid or gid:
        os.setxattr(target, NOTE, to_note(uid, gid), follow_symlinks=follow)
    else:
        os.removexattr(target, NOTE, follow_symlinks=follow)
