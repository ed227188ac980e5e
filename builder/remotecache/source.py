"""What a remote cache can do, wherever it is kept."""

from collections.abc import Callable, Sequence
from typing import Protocol

from builder.absent import Origin
from builder.remotecache.entry import CacheEntry
from store.digest import Digest
from store.layers import BlobRef


class CacheFailed(Exception):
    """A remote cache cannot be read or written."""


class CacheSource(Protocol):
    """A place that records are read from."""

    name: str

    def find(self, key: Digest) -> Sequence[CacheEntry]:
        """Return the results of a key; asks once, whatever the cache holds."""

    def origin(self, blob: BlobRef) -> Origin:
        """Return how a blob of a record is brought here."""

    def note(self, name: str) -> bytes | None:
        """Return what stands under a name beside the records, None where nothing does."""

    def close(self) -> None:
        """Let go of connections."""


class CacheTarget(Protocol):
    """A place that records are added to."""

    name: str

    def has(self, entry: CacheEntry) -> bool:
        """Tell whether a record is there."""

    def send(self, blob: BlobRef, origin: Origin | None, bring: Callable[[], None]) -> None:
        """Let a blob be there; `bring` puts it into the content store where it is needed."""

    def add(self, entries: Sequence[CacheEntry]) -> None:
        """Add records whose blobs are there; those of others stay."""

    def put_note(self, name: str, data: bytes) -> None:
        """Let `data` stand under a name, in the place of what stood there."""

    def close(self) -> None:
        """Let go of connections."""
