"""Finding the values of secrets in the bytes of a file, also where these are compressed.

Owns how far is looked: into gzip, xz, zstd and bzip2, and into zip's deflated members, one level
deep, up to a bound for each file and one for each layer. What is damaged is looked into up to the
damage. Nothing is decompressed for who has no secrets.
"""

from collections.abc import Callable, Iterator

from builder.secretsearch import Needles, StreamSearch
from values.classes import dataclass

_MAGIC_BYTES = 6
FILE_BYTES = 256 << 20
LAYER_BYTES = 1 << 30


@dataclass(slots=True)
class Bound:
    """How many bytes may still be unpacked of a layer."""

    left_bytes: int = LAYER_BYTES


class FileSearch:
    """A search through one file as it passes by. bound: of its layer."""

    def __init__(self, needles: Needles, bound: Bound) -> None:
        self._bound = bound
        self._left_bytes = FILE_BYTES
        self._plain, self._inside = StreamSearch(needles), StreamSearch(needles)
        self._start: bytes | None = b""
        self._unpack: Callable[[bytes], Iterator[bytes]] | None = None

    @property
    def found(self) -> set[str]:
        """Ids of secrets whose values are in its bytes, so far."""
        return self._plain.found

    @property
    def found_inside(self) -> set[str]:
        """Ids of those that are only in what its bytes unpack to, so far."""
        return self._inside.found - self._plain.found

    def feed(self, data: bytes) -> None:
        """Take the next bytes; a value may lie across pieces."""
        self._plain.feed(data)
        if self._start is not None:
            self._start += data
            if len(self._start) < _MAGIC_BYTES:
                return
            data, self._start = self._start, None
            self._unpack = _unpacker(data)
        if self._unpack is not None and self._bound.left_bytes > 0:
            self._look_inside(data)

    def _look_inside(self, data: bytes) -> None:
        from store.errors import BadArchive

        assert self._unpack is not None
        try:
            for piece in self._unpack(data):
                self._inside.feed(piece)
                self._left_bytes -= len(piece)
                self._bound.left_bytes -= len(piece)
                if min(self._left_bytes, self._bound.left_bytes) <= 0:
                    self._unpack = None
                    return
        except BadArchive:
            self._unpack = None


def _unpacker(start: bytes) -> Callable[[bytes], Iterator[bytes]] | None:
    """Return what unpacks a file with these first bytes, None for one that is not compressed."""
    from store.compression import Inflation, detect
    from store.zipstream import LOCAL, ZipStream

    if start.startswith(LOCAL):
        return ZipStream().feed
    algorithm = detect(start)
    return None if algorithm == "none" else Inflation(algorithm).feed
