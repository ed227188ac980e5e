"""Calls that ask or change who a process is."""

import errno
import os
import stat
import struct

from runtime.emulated import identity
from runtime.emulated.owners import noted
from runtime.emulated.world import HERE, Native, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.emulated.identity import Ids
    from runtime.linux.seccomp_notify import Call

    Handler = Callable[[World, Call], int]

_MOST_GROUPS = 65536
_UNCHANGED = identity.UNCHANGED
_U32 = struct.Struct("=I")


def setter(change: "Callable[[Ids, tuple[int, ...], bool], Ids]", users: bool) -> "Handler":
    """Return the handler of a call that changes the ids of users, or of groups."""

    def handler(world: World, call: "Call") -> int:
        who = world.processes.of(call[1])
        wanted = tuple(arg & 0xFFFFFFFF for arg in call[4])
        old = who.uids if users else who.gids
        right = "CAP_SETUID" if users else "CAP_SETGID"
        new = change(old, wanted, _may_set(world, call, who, right))
        if new != old:
            uids, gids = (new, who.gids) if users else (who.uids, new)
            world.processes.become(call[1], identity.Identity(uids, gids, who.groups, who.keeps))
        return old[3] if change is set_fs else 0

    return handler


def _may_set(world: World, call: "Call", who: identity.Identity, right: str) -> bool:
    return who.is_root or (who.keeps and world.has_right(call, right))


def do_prctl(world: World, call: "Call") -> int:
    """PR_SET_KEEPCAPS: who is root may keep what root has; the kernel's own flag is set as well."""
    who = world.processes.of(call[1])
    keeps = bool(call[4][1])
    if who.is_root and keeps != who.keeps:
        changed = identity.Identity(who.uids, who.gids, who.groups, keeps)
        world.processes.become(call[1], changed)
    raise Native


def set_one(ids: "Ids", wanted: "tuple[int, ...]", privileged: bool) -> "Ids":
    if wanted[0] == _UNCHANGED:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return identity.set_id(ids, wanted[0], privileged)


def set_pair(ids: "Ids", wanted: "tuple[int, ...]", privileged: bool) -> "Ids":
    return identity.set_real_and_effective(ids, wanted[0], wanted[1], privileged)


def set_three(ids: "Ids", wanted: "tuple[int, ...]", privileged: bool) -> "Ids":
    return identity.set_three(ids, wanted[:3], privileged)


def set_fs(ids: "Ids", wanted: "tuple[int, ...]", privileged: bool) -> "Ids":
    return identity.set_file_system_id(ids, wanted[0], privileged)


def do_execve(world: World, call: "Call") -> int:
    """Take the identity that a setuid or setgid program gives; the kernel executes it."""
    _execute(world, call, world.place(call, HERE, call[4][0]))
    raise Native


def do_execveat(world: World, call: "Call") -> int:
    folder, address, _, _, flags, _ = call[4]
    _execute(world, call, world.place(call, folder, address, flags))
    raise Native


def _execute(world: World, call: "Call", path: bytes) -> None:
    who = world.processes.of(call[1])
    status = os.stat(path)
    if not (status.st_mode & (stat.S_ISUID | stat.S_ISGID) and world.may_gain):
        effective = who.uids[1], who.gids[1]
    else:
        owner = noted(path, status, follow=True)
        effective = (
            owner[0] if status.st_mode & stat.S_ISUID else who.uids[1],
            owner[1] if status.st_mode & stat.S_ISGID and status.st_mode & 0o010 else who.gids[1],
        )
    uids = (who.uids[0], *(effective[0],) * 3)
    gids = (who.gids[0], *(effective[1],) * 3)
    if who.keeps or (uids, gids) != (who.uids, who.gids):
        world.processes.become(call[1], identity.Identity(uids, gids, who.groups))


def do_setgroups(world: World, call: "Call") -> int:
    count, address, *_ = call[4]
    who = world.processes.of(call[1])
    if not _may_set(world, call, who, "CAP_SETGID"):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    count &= 0xFFFFFFFF
    if count > _MOST_GROUPS:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    data = world.read(call, address, 4 * count) if count else b""
    groups = struct.unpack(f"={len(data) // 4}I", data)
    world.processes.become(call[1], identity.Identity(who.uids, who.gids, groups, who.keeps))
    return 0


def do_getgroups(world: World, call: "Call") -> int:
    room, address, *_ = call[4]
    groups = world.processes.of(call[1]).groups
    if room & 0xFFFFFFFF:
        if room & 0xFFFFFFFF < len(groups):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        world.write(call, address, struct.pack(f"={len(groups)}I", *groups))
    return len(groups)


def getter(users: bool, which: int) -> "Handler":
    """Return the handler of a call that asks for one id: 0 the real one, 1 the effective one."""

    def handler(world: World, call: "Call") -> int:
        who = world.processes.of(call[1])
        return (who.uids if users else who.gids)[which]

    return handler


def getter_of_three(users: bool) -> "Handler":
    """Return the handler of a call that asks for the real, effective and saved id."""

    def handler(world: World, call: "Call") -> int:
        who = world.processes.of(call[1])
        for address, id_ in zip(call[4], (who.uids if users else who.gids)[:3], strict=False):
            world.write(call, address, _U32.pack(id_))
        return 0

    return handler
