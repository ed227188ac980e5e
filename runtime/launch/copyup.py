"""A tmpfs that starts with what it covers (`tmpcopyup`): the tree copied by descriptors."""

import os
import stat

_CHUNK = 1 << 20


def copy_up(source: int, tree: int) -> None:
    """Copy the directory `source` (an O_PATH descriptor) into the detached mount `tree`.

    Files, directories, symlinks and fifos, with modes, owners and times; the top directory's mode
    and owner too. No symlink is followed.
    """
    below = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
    into = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    try:
        _copy_directory(below, into)
    finally:
        os.close(below)
        os.close(into)


def _copy_directory(source: int, target: int) -> None:
    for name in os.listdir(source):
        _copy(source, target, name)
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy(source: int, target: int, name: str) -> None:
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        os.mkdir(name, 0o700, dir_fd=target)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inner, made = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=target)
        try:
            _copy_directory(inner, made)
        finally:
            os.close(inner)
            os.close(made)
        return
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    elif stat.S_ISREG(mode):
        _copy_file(source, target, name)
    elif stat.S_ISFIFO(mode):
        os.mkfifo(name, 0o600, dir_fd=target)
    else:
        return  # devices and sockets
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(mode):
        os.chmod(name, stat.S_IMODE(mode), dir_fd=target)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _copy_file(source: int, target: int, name: str) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    reader = os.open(name, flags, dir_fd=source)
    writer = os.open(
        name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=target
    )
    try:
        while os.sendfile(writer, reader, None, _CHUNK):
            pass
    finally:
        os.close(reader)
        os.close(writer)
