"""stat and its kin: what they say of a file's owner is what is noted."""

import errno
import os
import stat
import struct

from runtime.emulated.owners import follows
from runtime.emulated.world import HERE, Native, World
from runtime.linux import constants as c
from runtime.linux.libc import syscall
from store import cdata
from store.ownernote import NOTE, from_atime_ns, from_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.linux.seccomp_notify import Call
    from store.ownernote import Owner

# struct stat: how long it is, and where the two ids are. include/uapi/asm/stat.h
_STAT = (144, 28) if os.uname().machine == "x86_64" else (128, 24)
_STATX = (256, 20)
_SYS_newfstatat = 262 if os.uname().machine == "x86_64" else 79
_SYS_statx = 332 if os.uname().machine == "x86_64" else 291


def _owner_shown(path: bytes, *, follow: bool) -> "Owner":
    """Return the owner that stat shows. Raises Native where it is as the kernel says."""
    try:
        return from_note(os.getxattr(path, NOTE, follow_symlinks=follow))
    except OSError as error:
        if follow or error.errno != errno.ENODATA:
            raise Native from None
    status = os.stat(path, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        raise Native
    owner = from_atime_ns(status.st_atime_ns)
    if owner == (0, 0):
        raise Native
    return owner


def _filled(path: bytes, follow: bool, layout: "tuple[int, int]", mask: int = 0) -> bytes:
    """Return struct stat or, with a mask, struct statx of a file, with the owner noted."""
    owner = _owner_shown(path, follow=follow)
    size, at = layout
    buffer = cdata.create_string_buffer(b"", size)
    flags = 0 if follow else c.AT_SYMLINK_NOFOLLOW
    if layout is _STATX:
        syscall("statx", "", _SYS_statx, c.AT_FDCWD, path, flags, mask, buffer)
    else:
        syscall("newfstatat", "", _SYS_newfstatat, c.AT_FDCWD, path, buffer, flags)
    data = bytes(buffer)
    return data[:at] + struct.pack("=II", *owner) + data[at + 8 :]


def do_stat(world: World, call: "Call") -> int:
    path = world.place(call, HERE, call[4][0])
    world.write(call, call[4][1], _filled(path, True, _STAT))
    return 0


def do_lstat(world: World, call: "Call") -> int:
    path = world.place(call, HERE, call[4][0])
    world.write(call, call[4][1], _filled(path, False, _STAT))
    return 0


def do_fstat(world: World, call: "Call") -> int:
    path = world.descriptor(call, call[4][0] & 0xFFFFFFFF)
    world.write(call, call[4][1], _filled(path, True, _STAT))
    return 0


def do_newfstatat(world: World, call: "Call") -> int:
    folder, address, buffer, flags, *_ = call[4]
    path = world.place(call, folder, address, flags)
    world.write(call, buffer, _filled(path, follows(world, flags, path), _STAT))
    return 0


def do_statx(world: World, call: "Call") -> int:
    folder, address, flags, mask, buffer, _ = call[4]
    path = world.place(call, folder, address, flags)
    follow = follows(world, flags, path)
    world.write(call, buffer, _filled(path, follow, _STATX, mask & 0xFFFFFFFF))
    return 0
