"""Blobs: bytes under the name of their digest, as they were pulled, pushed or saved."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from types import TracebackType

from store.checkpoint import checkpoint
from store.digest import Digest, digest_of, hex_of, is_digest
from store.errors import Corrupt, NotFound, StoreError, disk_errors
from store.folder import Folder, names_in, sync_directory, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO


class ContentStore:
    """The blobs of one store: immutable, each complete and durable once it has its name."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._root = folder.path("blobs", "sha256")

    def path(self, digest: Digest) -> str:
        """Return where the blob `digest` is or would be."""
        return f"{self._root}/{hex_of(digest)}"

    def has(self, digest: Digest) -> bool:
        """Tell whether the blob is here."""
        return os.path.exists(self.path(digest))

    def size(self, digest: Digest) -> int:
        """Return the blob's size in bytes. Raises NotFound."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def open(self, digest: Digest) -> "BinaryIO":
        """Open the blob for reading; who reads it all checks the digest. Raises NotFound."""
        try:
            return open(self.path(digest), "rb", buffering=0)
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def get(self, digest: Digest) -> bytes:
        """Return the whole blob, its digest verified. Raises NotFound, Corrupt."""
        with disk_errors(f"read blob {digest}", self._root), self.open(digest) as file:
            data = file.read()
        if digest_of(data) != digest:
            raise Corrupt(
                f"blob {digest}: the stored bytes have digest {digest_of(data)}",
                hint="pybuild cache verify drops what is damaged, so that it is got again",
            )
        return data

    def put(self, data: bytes) -> Digest:
        """Store `data` durably and return its digest; nothing is written if it is here."""
        digest = digest_of(data)
        if not self.has(digest):
            self.ingest((data,), digest)
        return digest

    def ingest(self, chunks: Iterable[bytes], expected: Digest | None = None) -> tuple[Digest, int]:
        """Store a stream durably; return its digest and size in bytes.

        Raises Corrupt when the digest is not `expected`; then nothing is stored.
        """
        with self.writer() as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit(expected)

    def writer(self) -> "Ingest":
        """Begin a new blob; use it as a context manager."""
        return Ingest(self._folder, self._root)

    def iter(self) -> Iterator[Digest]:
        """Yield the digest of every blob, sorted."""
        for name in names_in(self._root):
            digest = f"sha256:{name}"
            if is_digest(digest):
                yield Digest(digest)

    def remove(self, digest: Digest) -> None:
        """Delete the blob; absent is fine."""
        path = self.path(digest)
        with disk_errors(f"remove blob {digest}", path), contextlib.suppress(FileNotFoundError):
            os.unlink(path)


class Ingest:
    """One blob being written; thrown away on exit unless committed."""

    def __init__(self, folder: Folder, root: str) -> None:
        self._root = root
        with disk_errors("write blob", root):
            self._scratch = folder.scratch_file()
        import hashlib

        self._hash = hashlib.sha256()
        self._committed = False
        self.size_bytes = 0

    def __enter__(self) -> "Ingest":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._committed:
            with contextlib.suppress(OSError):
                os.unlink(self._scratch.path)
        os.close(self._scratch.fd)

    def write(self, data: bytes) -> int:
        """Append `data`. Raises DiskFull, StoreError."""
        with disk_errors("write blob", self._root):
            write_all(self._scratch.fd, data)
        self._hash.update(data)
        self.size_bytes += len(data)
        return len(data)

    def commit(self, expected: Digest | None = None) -> tuple[Digest, int]:
        """Give the blob its name, durably; return its digest and size in bytes.

        Raises Corrupt when the digest is not `expected`, and the blob is thrown away.
        """
        if self._committed:
            raise StoreError("commit blob: already committed")
        digest = Digest("sha256:" + self._hash.hexdigest())
        if expected is not None and digest != expected:
            raise Corrupt(f"blob {expected}: the bytes that came have digest {digest}")
        with disk_errors(f"write blob {digest}", self._root):
            os.fsync(self._scratch.fd)
            checkpoint("blob-synced")
            os.rename(self._scratch.path, f"{self._root}/{hex_of(digest)}")
            checkpoint("blob-renamed")
            self._committed = True
            sync_directory(self._root)
        return digest, self.size_bytes


def _missing(digest: Digest) -> NotFound:
    return NotFound(f"blob {digest}: not in the store")
