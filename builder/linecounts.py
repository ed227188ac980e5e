"""How many lines of a copied file came and went, for what is said of a change.

The old bytes are looked for in the layer that COPY made of them, and count only when their digest
is the recorded one: nothing is ever told of another file.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from store.digest import digest_of
from store.linux import open_beneath
from values.classes import dataclass

_LARGEST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class LineCounts:
    """layer: the old layer's tree. context: where the files are now. destination: COPY's."""

    layer: str
    context: str
    destination: str

    def of(self, paths: Sequence[str], digests: Mapping[str, str]) -> dict[str, tuple[int, int]]:
        """Return how many lines came and went, of those of `paths` that are text.

        paths: relative to the context. digests: of the old bytes, by path.
        """
        counts = {}
        for path in paths:
            now = _text(self.context, path)
            before = self._before(path, digests.get(path, ""))
            if now is not None and before is not None:
                counts[path] = changed_lines(before, now)
        return counts

    def _before(self, path: str, digest: str) -> bytes | None:
        for place in self._places(path):
            data = _text(self.layer, place)
            if data is not None and digest_of(data) == digest:
                return data
        return None

    def _places(self, path: str) -> Iterator[str]:
        """Yield where COPY may have put a file, below the destination or as it."""
        destination = self.destination.strip("/")
        parts = path.split("/")
        for start in range(len(parts)):
            yield "/".join(part for part in (destination, *parts[start:]) if part)
        yield destination


def _text(root: str, path: str) -> bytes | None:
    """Return the bytes of a small regular text file below `root`, None for anything else."""
    with suppress(OSError):
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = open_beneath(root_fd, os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(root_fd)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST_BYTES:
                data = file.read()
                return data if _is_text(data) else None
    return None


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def changed_lines(before: bytes, now: bytes) -> tuple[int, int]:
    """Return how many lines are in `now` only, and in `before` only; a line may stand twice.

    Both are 0 where lines only changed their places.
    """
    old, new = Counter(before.splitlines(keepends=True)), Counter(now.splitlines(keepends=True))
    return (new - old).total(), (old - new).total()
