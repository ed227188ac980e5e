"""How much a compressed layer may come to: a bomb is refused before it has filled the disk."""

import os
from collections.abc import Iterable, Iterator

from store.errors import BadArchive, DiskFull

BOMB_BYTES = 4 << 30
BOMB_RATIO = 300  # deflate's limit is 1032; what is worth shipping stays far below
_RESERVE = 0.02  # of the free space, left to others


def bounded(tar: Iterable[bytes], blob_bytes: int, folder: str) -> Iterator[bytes]:
    """Yield a layer's tar, as long as it may be a layer and the disk can take it.

    blob_bytes: what it came as. folder: on the disk that it is unpacked to. Raises BadArchive,
    DiskFull.
    """
    status = os.statvfs(folder)
    free_bytes = int(status.f_bavail * status.f_frsize * (1 - _RESERVE))
    limit = max(BOMB_BYTES, BOMB_RATIO * blob_bytes)
    size_bytes = 0
    for chunk in tar:
        size_bytes += len(chunk)
        if size_bytes > limit:
            raise BadArchive(f"{blob_bytes} bytes unpack to more than {limit}: taken for a bomb")
        if size_bytes > free_bytes:
            raise DiskFull(
                f"unpacked it is larger than the {free_bytes} bytes that are free in {folder}",
                hint="free some space (pybuild system prune removes what nothing uses)",
            )
        yield chunk
