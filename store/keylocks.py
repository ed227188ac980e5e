"""One lock for each cache key, without a file for each.

A key's lock is one byte of the file `locks/keys`, at an offset made from the key's digest, held
as an open file description lock: the kernel drops it when its holder dies, threads of one process
exclude each other, and the file stays empty. Source: fcntl_locking(2), F_OFD_SETLK.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from store.digest import Digest, hex_of

_OFFSET_DIGITS = 15  # 60 bits: two keys that meet there only wait for each other
_SHORTEST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.1


def try_lock(fd: int, key: Digest) -> bool:
    """Take the lock of `key` on an open lock file; False when another holds it."""
    request = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _offset(key), 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _offset(key: Digest) -> int:
    return int(hex_of(key)[:_OFFSET_DIGITS], 16)


@contextmanager
def held_key(path: str, key: Digest, wait: Callable[[float], None]) -> Iterator[None]:
    """Hold the lock of `key` in the lock file `path` inside the block.

    wait: called with seconds while another holder has it; it may raise to give up.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        pause = _SHORTEST_WAIT_S
        while not try_lock(fd, key):
            wait(pause)
            pause = min(2 * pause, _LONGEST_WAIT_S)
        yield
    finally:
        os.close(fd)
