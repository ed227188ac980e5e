"""Calls that make a file: whose it is follows from who makes it, and from its directory."""

import os
import stat
import struct

from runtime.emulated.owners import note, noted
from runtime.emulated.world import HERE, Native, World
from runtime.linux import seccomp_notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.linux.seccomp_notify import Call
    from store.ownernote import Owner

O_TMPFILE = 0o20000000  # without O_DIRECTORY, which is in it


def _owner_of_new(world: World, call: "Call", path: bytes) -> "Owner":
    """Return whose a new file will be. Raises Native: root's."""
    who = world.processes.of(call[1])
    parent = path.rstrip(b"/").rpartition(b"/")
    folder = parent[0] or parent[1] or b"."
    gid = who.gids[3]
    try:
        status = os.stat(folder)
    except OSError:
        raise Native from None
    if status.st_mode & stat.S_ISGID:
        gid = noted(folder, status, follow=True)[1]
    if not (who.uids[3] or gid):
        raise Native
    return who.uids[3], gid


def _open_new(world: World, call: "Call", path: bytes, flags: int, mode: int) -> None:
    if flags & O_TMPFILE:
        owner = _owner_of_new(world, call, path + b"/.")
    else:
        owner = _owner_of_new(world, call, path)
        flags |= os.O_EXCL
    world.umask(call)
    world.check(call)
    try:
        fd = os.open(path, flags | os.O_CLOEXEC, mode & 0o7777)
    except OSError:  # it is there, or it cannot be made: the kernel says which
        raise Native from None
    try:
        note(fd, os.fstat(fd), owner, follow=True)
        seccomp_notify.answer_with_descriptor(world.listener, call[0], fd, flags & os.O_CLOEXEC)
    finally:
        os.close(fd)


def do_open(world: World, call: "Call") -> None:
    address, flags, mode, *_ = call[4]
    path = world.place(call, HERE, address)
    _open_new(world, call, path, flags & 0xFFFFFFFF, mode)


def do_creat(world: World, call: "Call") -> None:
    address, mode, *_ = call[4]
    path = world.place(call, HERE, address)
    _open_new(world, call, path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)


def do_openat(world: World, call: "Call") -> None:
    folder, address, flags, mode, *_ = call[4]
    path = world.place(call, folder, address)
    _open_new(world, call, path, flags & 0xFFFFFFFF, mode)


def do_openat2(world: World, call: "Call") -> None:
    folder, address, how, *_ = call[4]
    flags, mode, resolve = struct.unpack("=QQQ", world.read(call, how, 24))
    if resolve or not flags & (os.O_CREAT | O_TMPFILE):
        raise Native
    _open_new(world, call, world.place(call, folder, address), flags, mode)


def _made(world: World, call: "Call", path: bytes, make: "Callable[[], None]") -> int:
    """Make something that is not opened, and note whose it is."""
    owner = _owner_of_new(world, call, path)
    world.umask(call)
    world.check(call)
    make()
    note(path, os.stat(path, follow_symlinks=False), owner, follow=False)
    return 0


def _mkdir(world: World, call: "Call", folder: int, address: int, mode: int) -> int:
    path = world.place(call, folder, address)
    return _made(world, call, path, lambda: os.mkdir(path, mode & 0o7777))


def do_mkdir(world: World, call: "Call") -> int:
    return _mkdir(world, call, HERE, *call[4][:2])


def do_mkdirat(world: World, call: "Call") -> int:
    return _mkdir(world, call, *call[4][:3])


def _symlink(world: World, call: "Call", target: int, folder: int, address: int) -> int:
    text, path = world.text(call, target), world.place(call, folder, address)
    return _made(world, call, path, lambda: os.symlink(text, path))


def do_symlink(world: World, call: "Call") -> int:
    return _symlink(world, call, call[4][0], HERE, call[4][1])


def do_symlinkat(world: World, call: "Call") -> int:
    return _symlink(world, call, *call[4][:3])


def _mknod(world: World, call: "Call", folder: int, address: int, mode: int) -> int:
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFIFO):
        raise Native  # no device can be made, and a socket is no part of a layer
    path = world.place(call, folder, address)
    return _made(world, call, path, lambda: os.mknod(path, mode & 0xFFFF))


def do_mknod(world: World, call: "Call") -> int:
    return _mknod(world, call, HERE, *call[4][:2])


def do_mknodat(world: World, call: "Call") -> int:
    return _mknod(world, call, *call[4][:3])
