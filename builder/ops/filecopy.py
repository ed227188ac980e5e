"""Copying one regular file into a root file system: its bytes, as they were digested, and its
attributes.

Everything goes through descriptors. A path below /proc/self/fd is looked up component by component
each time, which is most of what copying a small file would take.
"""

import contextlib
import errno
import hashlib
import os
import time
from types import TracebackType

from builder.contenthash import Entry
from builder.looked import stamp_of
from builder.statcache import is_settled
from builder.tree import FileChanged, digest_of_open_file
from store import ownership
from store.linux import copy_file
from values.classes import dataclass

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_SMALL_BYTES = 1 << 17
_BLOCK_BYTES = 512


class OpenFolder:
    """The directory that was asked for last, open: files come a directory at a time."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._fd = -1

    def __enter__(self) -> "OpenFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def of(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the directory that holds `path`, and the name in it."""
        parent, _, name = path.rpartition("/")
        if parent != self._path:
            fd = os.open(parent, _FOLDER)
            if self._fd >= 0:
                os.close(self._fd)
            self._fd, self._path = fd, parent
        return self._fd, name


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a new file gets. times_ns: of access and modification."""

    uid: int
    gid: int
    mode: int
    times_ns: tuple[int, int]
    xattrs: tuple[tuple[str, bytes], ...] = ()


def copy_regular(
    source: tuple[int, str], place: tuple[int, str], entry: Entry, wanted: Attributes
) -> bytes | None:
    """Copy a file to a place where nothing is, both given as directory and name; holes are kept.

    Returns the bytes where they went through our hands at once.
    Raises FileChanged when it is not as digested, FileExistsError.
    """
    folder, name = source
    try:
        reading = os.open(name, _READ, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            raise FileChanged(entry.path) from error
        raise
    try:
        began_ns = time.time_ns()
        status = os.fstat(reading)
        if stamp_of(status) != entry.stamp:
            raise FileChanged(entry.path)
        writing = os.open(place[1], _WRITE, 0o600, dir_fd=place[0])
        try:
            data = _copy_bytes(reading, writing, status)
            if stamp_differs(reading, entry):
                raise FileChanged(entry.path)
            # A stamp this young can outlive a write: compare the bytes themselves.
            if not is_settled(entry.stamp, began_ns) and _digest(data, writing) != entry.digest:
                raise FileChanged(entry.path)
            _set_attributes(writing, wanted)
            return data
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def stamp_differs(fd: int, entry: Entry) -> bool:
    """Tell whether an open file is not, or no longer, in the state that was digested."""
    return stamp_of(os.fstat(fd)) != entry.stamp


def _copy_bytes(reading: int, writing: int, status: os.stat_result) -> bytes | None:
    """Copy all bytes; return them where they went through our hands at once."""
    size = status.st_size
    if size > _SMALL_BYTES or status.st_blocks * _BLOCK_BYTES < size:
        copy_file(reading, writing, size)
        return None
    data = os.read(reading, size) if size else b""
    if os.write(writing, data) != size:
        os.lseek(reading, 0, os.SEEK_SET)
        os.ftruncate(writing, 0)
        copy_file(reading, writing, size)
        return None
    return data


def _digest(data: bytes | None, fd: int) -> str:
    if data is not None:
        return "sha256:" + hashlib.sha256(data).hexdigest()
    os.lseek(fd, 0, os.SEEK_SET)
    return digest_of_open_file(fd)


def _set_attributes(fd: int, wanted: Attributes) -> None:
    """Set owner, mode, xattrs and times: in this order, chown clears setuid bits."""
    ownership.give(fd, wanted.uid, wanted.gid)
    ownership.set_mode(fd, wanted.mode)
    for name, value in wanted.xattrs:
        # BuildKit ignores what the destination's file system cannot hold, and so do we.
        with contextlib.suppress(OSError):
            os.setxattr(fd, name, value)
    os.utime(fd, ns=wanted.times_ns)
