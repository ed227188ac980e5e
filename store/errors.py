"""What can go wrong in the store.

StoreError
├── NotFound          nothing of that name is stored
├── Ambiguous         a short name fits several things
├── InvalidReference  not a reference by its grammar
├── Corrupt           stored bytes are not what their name says
├── BadArchive        a tar or archive from outside is broken, hostile or not supported
├── NotStorable       a file is of a kind that no layer can hold
├── NewerFormat       written by a newer pybuild
├── DiskFull          no space or inodes left, or over quota
└── InUse             another process holds what must be free
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class StoreError(Exception):
    """Base of every error that the store raises on purpose.

    hint: what the user can do about it, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NotFound(StoreError):
    """Nothing of that name is stored."""


class Ambiguous(StoreError):
    """A short name fits more than one stored thing."""


class InvalidReference(StoreError):
    """A text is not an image reference by the grammar of references."""


class Corrupt(StoreError):
    """Stored bytes are not what their name or their record says."""


class BadArchive(StoreError):
    """A tar or archive from outside is broken, hostile or of an unsupported kind."""


class NotStorable(StoreError):
    """A file in a snapshot is of a kind, or has a name, that no layer can hold."""


class NewerFormat(StoreError):
    """A file was written by a newer version whose format is not known here."""


class DiskFull(StoreError):
    """The file system of the store has no room left."""


class InUse(StoreError):
    """Another process holds what this operation needs for itself."""


_FULL = {errno.ENOSPC, errno.EDQUOT}
_SMALL_BYTES = 1 << 16  # SQLite's index of its log takes half of it


def mount_point_of(path: str) -> str:
    """Return the mount point of the file system that holds `path` (or its nearest parent)."""
    path = os.path.abspath(path)
    while path != "/" and not (os.path.lexists(path) and os.path.ismount(path)):
        path = os.path.dirname(path)
    return path


def is_full(path: str) -> bool:
    """Tell whether the file system that holds `path` has no room for even a small file."""
    try:
        room = os.statvfs(os.path.dirname(path))
    except OSError:
        return False
    blocks = room.f_bfree if os.geteuid() == 0 else room.f_bavail
    return blocks * room.f_frsize < _SMALL_BYTES or (room.f_files > 0 and room.f_ffree == 0)


def disk_full(what: str, path: str, number: int = errno.ENOSPC) -> DiskFull:
    """Return the error for `what` where the file system of `path` is full: ENOSPC or EDQUOT."""
    return DiskFull(
        f"{what}: {os.strerror(number).lower()} on {mount_point_of(path)}",
        hint="free some space (pybuild system prune removes what nothing uses)",
    )


@contextmanager
def disk_errors(what: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError raised inside into a StoreError: the edge between the kernel and us.

    what: the operation and its object, as the error's first words ("unpack layer sha256:…").
    path: a path on the file system written to; named when it is full.
    Raises DiskFull for a full file system or quota, StoreError for every other OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(what, os.fspath(path), error.errno or errno.ENOSPC) from error
        cause = (error.strerror or str(error)).lower()
        named = f": {os.fsdecode(error.filename)}" if error.filename else ""
        raise StoreError(f"{what}{named}: {cause}") from error
