"""Calls about who a file belongs to: chown, and utimensat, which could take a note away."""

import errno
import os
import stat
import struct

from runtime.emulated import identity
from runtime.emulated.world import HERE, Native, World
from runtime.linux import constants as c
from store.ownernote import NOTE, from_atime_ns, from_note, to_atime_ns, to_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.linux.seccomp_notify import Call
    from store.ownernote import Owner

_UNCHANGED = identity.UNCHANGED
_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2
_NANO = 1_000_000_000


def noted(path: bytes, status: os.stat_result, *, follow: bool) -> "Owner":
    """Return who a file belongs to."""
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return from_atime_ns(status.st_atime_ns)
    try:
        return from_note(os.getxattr(path, NOTE, follow_symlinks=follow))
    except OSError:
        return 0, 0


def note(path: bytes | int, status: os.stat_result, owner: "Owner", *, follow: bool) -> None:
    """Note who a file belongs to. Raises OSError."""
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        atime_ns = to_atime_ns(*owner, status.st_mtime_ns)
        if atime_ns != status.st_atime_ns and from_atime_ns(status.st_atime_ns) != owner:
            os.utime(path, ns=(atime_ns, status.st_mtime_ns), follow_symlinks=follow)
        return
    try:
        if owner != (0, 0):
            os.setxattr(path, NOTE, to_note(*owner), follow_symlinks=follow)
        else:
            os.removexattr(path, NOTE, follow_symlinks=follow)
    except OSError as error:
        # What cannot bear a note is no part of a layer: /proc, a file system of its own.
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES):
            raise


def _chown(world: World, call: "Call", path: bytes, ids: "tuple[int, int]", follow: bool) -> int:
    try:
        status = os.stat(path, follow_symlinks=follow)
    except OSError:
        raise Native from None
    before = noted(path, status, follow=follow)
    after = (
        before[0] if ids[0] == _UNCHANGED else ids[0],
        before[1] if ids[1] == _UNCHANGED else ids[1],
    )
    who = world.processes.of(call[1])
    if not who.may_give(before, after) or (who.is_root and not world.may_give and before != after):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    world.check(call)
    # The kernel's part of it: errors, the bits that it clears, the time, the copy that is made.
    numbers = [-1 if id_ == _UNCHANGED else 0 for id_ in ids]
    os.chown(path, numbers[0], numbers[1], follow_symlinks=follow)
    note(path, os.stat(path, follow_symlinks=follow), after, follow=follow)
    return 0


def _ids(uid: int, gid: int) -> "tuple[int, int]":
    return uid & 0xFFFFFFFF, gid & 0xFFFFFFFF


def do_chown(world: World, call: "Call") -> int:
    address, uid, gid, *_ = call[4]
    path = world.place(call, HERE, address)
    return _chown(world, call, path, _ids(uid, gid), True)


def do_lchown(world: World, call: "Call") -> int:
    address, uid, gid, *_ = call[4]
    path = world.place(call, HERE, address)
    return _chown(world, call, path, _ids(uid, gid), False)


def do_fchown(world: World, call: "Call") -> int:
    fd, uid, gid, *_ = call[4]
    return _chown(world, call, world.descriptor(call, fd & 0xFFFFFFFF), _ids(uid, gid), True)


def do_fchownat(world: World, call: "Call") -> int:
    folder, address, uid, gid, flags, _ = call[4]
    path = world.place(call, folder, address, flags)
    return _chown(world, call, path, _ids(uid, gid), follows(world, flags, path))


def follows(world: World, flags: int, path: bytes) -> bool:
    """Tell whether a symlink at `path` is followed.

    A path from home stands for an open file: a link of procfs, which always is.
    """
    return not flags & c.AT_SYMLINK_NOFOLLOW or (world.is_home and not path.startswith(b"/"))


def do_utimensat(world: World, call: "Call") -> int:
    """Of a symlink: its time of access is where the owner is noted."""
    folder, address, times, flags, *_ = call[4]
    path = world.place(call, folder, address, flags)
    status = os.stat(path, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    owner = from_atime_ns(status.st_atime_ns)
    if kind in (stat.S_IFREG, stat.S_IFDIR) or owner == (0, 0):
        raise Native
    if times:
        _, _, seconds, nanoseconds = struct.unpack("=qqqq", world.read(call, times, 32))
    else:
        seconds, nanoseconds = 0, _NOW
    if nanoseconds == _OMIT:
        return 0
    world.check(call)
    if nanoseconds == _NOW:
        os.utime(path, follow_symlinks=False)
        mtime_ns = os.stat(path, follow_symlinks=False).st_mtime_ns
    else:
        mtime_ns = seconds * _NANO + nanoseconds
    os.utime(path, ns=(status.st_atime_ns, mtime_ns), follow_symlinks=False)
    return 0
