"""mount(2), the mount API by file descriptors, and calls about paths, thinly."""

import os

from runtime.linux import constants as c
from runtime.linux.libc import libc, oserror, syscall
from store import cdata

RENAME_EXCHANGE = 2


class _OpenHow(cdata.Structure):
    _fields_ = (
        ("flags", cdata.c_uint64),
        ("mode", cdata.c_uint64),
        ("resolve", cdata.c_uint64),
    )


class _MountAttr(cdata.Structure):
    _fields_ = (
        ("attr_set", cdata.c_uint64),
        ("attr_clr", cdata.c_uint64),
        ("propagation", cdata.c_uint64),
        ("userns_fd", cdata.c_uint64),
    )


def mount(source: str, target: str, fstype: str | None, flags: int, data: str | None) -> None:
    result = libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() if fstype else None,
        cdata.c_ulong(flags),
        os.fsencode(data) if data else None,
    )
    if result < 0:
        raise oserror("mount", target)


def umount2(target: str, flags: int = 0) -> None:
    if libc.umount2(os.fsencode(target), flags) < 0:
        raise oserror("umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    syscall("pivot_root", new_root, c.SYS_pivot_root, os.fsencode(new_root), os.fsencode(put_old))


def fsopen(fstype: str) -> int:
    return syscall("fsopen", fstype, c.SYS_fsopen, fstype.encode(), c.FSOPEN_CLOEXEC)


def _context_log(fd: int) -> str:
    """Return what the file system wrote into its context's log, for the error message."""
    lines = []
    try:
        while line := os.read(fd, 4096):
            lines.append(line.decode(errors="replace").strip())
    except OSError:
        pass  # ENODATA: the log is empty
    return "; ".join(lines)


def fsconfig(fd: int, command: int, key: str | None, value: str | None, aux: int = 0) -> None:
    """Give one option, or a command, to the file system context `fd`."""
    try:
        syscall(
            "fsconfig",
            key or "create",
            c.SYS_fsconfig,
            fd,
            command,
            key.encode() if key is not None else None,
            os.fsencode(value) if value is not None else None,
            aux,
        )
    except OSError as error:
        log = _context_log(fd)
        if not log:
            raise
        raise OSError(error.errno, f"{error.strerror} ({log})", error.filename) from error


def fsmount(fd: int, attributes: int) -> int:
    return syscall("fsmount", "", c.SYS_fsmount, fd, c.FSMOUNT_CLOEXEC, attributes)


def make_detached(
    fstype: str, source: str, options: "list[tuple[str, str | None]]", attributes: int
) -> int:
    """Return a descriptor of a new mount of `fstype` that is attached nowhere yet.

    options: pairs of key and value; value None is a flag.
    Closing the descriptor before move_mount unmounts it.
    """
    context = fsopen(fstype)
    try:
        if source:
            fsconfig(context, c.FSCONFIG_SET_STRING, "source", source)
        for key, value in options:
            command = c.FSCONFIG_SET_FLAG if value is None else c.FSCONFIG_SET_STRING
            fsconfig(context, command, key, value)
        fsconfig(context, c.FSCONFIG_CMD_CREATE, None, None)
        return fsmount(context, attributes)
    finally:
        os.close(context)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    return syscall(
        "open_tree", path, c.SYS_open_tree, dirfd, os.fsencode(path), flags | c.OPEN_TREE_CLOEXEC
    )


def move_mount(mount_fd: int, target_fd: int, target: str = "") -> None:
    """Attach the detached mount `mount_fd` on what `target_fd` refers to.

    target: names it in the error only.
    """
    flags = c.MOVE_MOUNT_F_EMPTY_PATH | c.MOVE_MOUNT_T_EMPTY_PATH
    syscall("move_mount", target, c.SYS_move_mount, mount_fd, b"", target_fd, b"", flags)


def mount_setattr(
    fd: int, set_: int, clear: int = 0, propagation: int = 0, recursive: bool = False
) -> None:
    """Change attributes of the mount `fd` (of all below it where `recursive`)."""
    _mount_setattr(fd, _MountAttr(set_, clear, propagation, 0), recursive)


def map_ids(fd: int, userns: int, recursive: bool) -> None:
    """Let the detached mount `fd` show owners as the user namespace `userns` maps them."""
    _mount_setattr(fd, _MountAttr(c.MOUNT_ATTR_IDMAP, 0, 0, userns), recursive)


def _mount_setattr(fd: int, attr: _MountAttr, recursive: bool) -> None:
    syscall(
        "mount_setattr",
        "",
        c.SYS_mount_setattr,
        fd,
        b"",
        c.AT_EMPTY_PATH | (c.AT_RECURSIVE if recursive else 0),
        cdata.byref(attr),
        cdata.sizeof(attr),
    )


def renameat2(source: str, target: str, flags: int) -> None:
    raw = os.fsencode(source), os.fsencode(target)
    if libc.renameat2(c.AT_FDCWD, raw[0], c.AT_FDCWD, raw[1], cdata.c_uint(flags)) < 0:
        raise oserror("renameat2", target)


def openat2(dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    return syscall(
        "openat2",
        path,
        c.SYS_openat2,
        dirfd,
        os.fsencode(path),
        cdata.byref(how),
        cdata.sizeof(how),
    )
