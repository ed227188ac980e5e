"""Locks between processes and threads: flock(2) on files that are never unlinked.

A flock belongs to the open file description: the kernel drops it when the last descriptor is
closed, so a killed process leaves none behind, and a child that inherited the descriptor keeps it.
Each call here opens its own description, so threads of one process exclude each other too.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from store.errors import InUse

_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:@+=")


def quote(name: str) -> str:
    """Return `name` as one file name: unsafe bytes become %XX, a long name ends in its digest."""
    raw = name.encode("utf-8", "surrogateescape")
    text = "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in raw)
    if text.startswith("."):
        text = "%2E" + text[1:]
    if len(text) <= 200:
        return text
    from hashlib import sha256

    return f"{text[:100]}%{sha256(raw).hexdigest()}"


def acquire(path: str, *, shared: bool = False, blocking: bool = True) -> int:
    """Return a descriptor of the lock file `path`, made if absent, that holds its flock.

    Closing the descriptor (every copy of it) releases the lock. Raises InUse when it is taken and
    `blocking` is false, OSError when the file cannot be opened.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        flock(fd, path, shared=shared, blocking=blocking)
    except BaseException:
        os.close(fd)
        raise
    return fd


def flock(fd: int, path: str, *, shared: bool = False, blocking: bool = True) -> None:
    """Take the flock of an open descriptor; `path` only names it in the error InUse."""
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(fd, operation if blocking else operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
            raise
        raise InUse(f"lock {path}: held by another process") from error


@contextmanager
def held(path: str, *, shared: bool = False, blocking: bool = True) -> Iterator[int]:
    """Hold the lock file `path` inside the block; the value is its descriptor."""
    fd = acquire(path, shared=shared, blocking=blocking)
    try:
        yield fd
    finally:
        os.close(fd)
