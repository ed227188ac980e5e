"""The store's folder as such: its locks, its lease, its scratch space and its trash.

Knows nothing of layers, blobs or images; everything that does is handed a Folder.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from store import linux
from store.checkpoint import checkpoint
from store.errors import InUse, disk_errors, is_full
from store.locks import acquire, flock, held, quote
from store.trash import Deleter, delete_tree, empty
from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class Scratch:
    """A place of its own below tmp/, claimed by a flock until `fd` is closed.

    path: absolute. fd: the open file or directory, opened before the first write to it.
    """

    path: str
    fd: int


class Folder:
    """The root folder of one store, shared with other threads and processes."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._deleter = Deleter(self.path("trash"))
        self._is_alone = False

    def close(self) -> None:
        """End what goes on in the background; what takes long another process goes on with."""
        self._deleter.finish()

    def path(self, *parts: str) -> str:
        """Return the absolute path of something in the store."""
        return os.path.join(self.root, *parts)

    @contextmanager
    def lock(self, name: str) -> Iterator[int]:
        """Hold the lock called `name` (any text); the value is its descriptor, to be inherited."""
        with held(self.path("locks", quote(name))) as fd:
            yield fd

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep garbage collection out of the store; any number of leases live side by side."""
        with held(self.path("locks", "lease"), shared=True):
            yield

    @contextmanager
    def exclusive_lease(self) -> Iterator[None]:
        """Be the only user of the store, for garbage collection. Raises InUse at once if not.

        Others wait for its end, so what is removed meanwhile only gets out of their way, and is
        deleted afterwards: that may take minutes. On a full disk it is deleted at once.
        """
        try:
            fd = acquire(self.path("locks", "lease"), blocking=False)
        except InUse as error:
            raise InUse(
                f"collect garbage in {self.root}: another build or command uses the store",
                hint="try again when it has ended",
            ) from error
        try:
            self._is_alone = True
            yield
        finally:
            self._is_alone = False
            os.close(fd)
        self.empty_trash()

    def unique(self) -> str:
        """Return a name that nothing in the store has had."""
        return os.urandom(12).hex()

    def scratch_file(self) -> Scratch:
        """Make an empty file below tmp/, open for writing and reading, claimed until closed."""
        return self._claimed(os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def scratch_directory(self) -> Scratch:
        """Make an empty directory below tmp/, claimed until its descriptor is closed."""
        return self._claimed(os.O_RDONLY | os.O_DIRECTORY)

    def _claimed(self, flags: int) -> Scratch:
        while True:
            path = self.path("tmp", self.unique())
            if flags & os.O_DIRECTORY:
                os.mkdir(path, 0o700)
            try:
                fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:
                continue  # swept between mkdir and open
            # A sweep may have come between the open and the flock: then begin again.
            with contextlib.suppress(InUse):
                flock(fd, path, blocking=False)
                if os.path.lexists(path):
                    return Scratch(path, fd)
            os.close(fd)

    def remove_tree(self, path: str, *, later: bool = False) -> int:
        """Take `path` out of the store at once, then delete it; absent is fine.

        later: deleting it may go on in the background, and end with the next garbage collection.
        A kill in between leaves a part of it in trash/, which the next sweep deletes.
        Returns the bytes freed by now.
        """
        with disk_errors("remove", path):
            grave = self.path("trash", self.unique())
            try:
                os.rename(path, grave)
            except FileNotFoundError:
                return 0
            if later:
                self._deleter.start()
            return 0 if later or self._keeps_others() else delete_tree(grave)

    def empty_trash(self) -> int:
        """Delete the trash, whoever uses the store; return how many bytes that freed."""
        with disk_errors("empty trash", self.root):
            return 0 if self._keeps_others() else empty(self.path("trash"))

    def _keeps_others(self) -> bool:
        """Tell whether others wait until we are done, and there is room to let things lie."""
        return self._is_alone and not is_full(self.path("trash"))

    def sweep(self) -> int:
        """Delete the trash, and the scratch of processes that are gone; return the bytes freed."""
        with disk_errors("sweep", self.root):
            scratch = os.listdir(self.path("tmp"))
            freed = self.empty_trash()
            return freed + sum(self._sweep_scratch(self.path("tmp", name)) for name in scratch)

    def _sweep_scratch(self, path: str) -> int:
        fd = claim_abandoned(path)
        if fd is None:
            return 0
        try:
            return self.remove_tree(path)
        finally:
            os.close(fd)


def names_in(path: str) -> list[str]:
    """Return the names in a directory, sorted; none where it is absent."""
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []


def durable_rename(source: str, target: str, fd: int) -> None:
    """Move a finished tree or file to its name, so that a power cut shows all of it or nothing.

    fd: on the same file system, opened before the first write to the tree, so that a failed
    write-back is reported here. Raises OSError; the target of a directory must be absent or empty.
    """
    linux.syncfs(fd)
    checkpoint("tree-synced")
    os.rename(source, target)
    sync_directory(os.path.dirname(target))


def sync_directory(path: str) -> None:
    """Make the names in the directory `path` durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(folder: Folder, path: str, data: bytes) -> None:
    """Replace the small file `path` by `data`, atomically and durably. Raises OSError."""
    scratch = folder.scratch_file()
    try:
        write_all(scratch.fd, data)
        os.fsync(scratch.fd)
        os.rename(scratch.path, path)
        sync_directory(os.path.dirname(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch.path)
        raise
    finally:
        os.close(scratch.fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however the kernel cuts it. Raises OSError."""
    written = os.write(fd, data)
    if written == len(data):
        return
    view = memoryview(data)[written:]
    while view:
        view = view[os.write(fd, view) :]


def claim_abandoned(path: str) -> int | None:
    """Take the flock of the file or directory `path` if its owner is gone.

    Returns the descriptor that holds it, None when the owner lives or `path` is absent.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        flock(fd, path, blocking=False)
    except InUse:
        os.close(fd)
        return None
    return fd
