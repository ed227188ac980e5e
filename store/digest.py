"""Digests and the names made of them.

Owns the three kinds of digest that must not be mixed up: of bytes as stored (`Digest`), of an
uncompressed layer tar (`DiffID`), of a stack of layers (`ChainID`). All read `sha256:<64 hex>`.
"""

import re
from collections.abc import Sequence

from store.sha256 import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NewType

    Digest = NewType("Digest", str)
    DiffID = NewType("DiffID", str)
    ChainID = NewType("ChainID", str)
else:  # `typing` takes 1 ms to import
    Digest = DiffID = ChainID = str

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}\Z")


def is_digest(text: str) -> bool:
    """Tell whether `text` is a sha256 digest in its canonical spelling."""
    return _SHA256.match(text) is not None


def digest_of(data: bytes) -> Digest:
    """Return the digest of `data`."""
    return Digest("sha256:" + sha256(data).hexdigest())


def hex_of(digest: Digest | DiffID | ChainID) -> str:
    """Return the 64 hexadecimal digits of `digest`.

    Raises ValueError when it is no sha256 digest: it may have come from outside and end up in a
    path.
    """
    if not is_digest(digest):
        raise ValueError(f"not a sha256 digest: {digest!r}")
    return digest[7:]


def chain_id(diff_ids: Sequence[DiffID]) -> ChainID:
    """Return the name of the file system made by applying `diff_ids` in order.

    diff_ids: digests of the uncompressed layer tars, base first, at least one.
    Raises ValueError if there are none: the empty file system has no chain ID.
    Source: image-spec config.md, "Layer ChainID".
    """
    if not diff_ids:
        raise ValueError("the empty file system has no chain ID")
    chain = ChainID(diff_ids[0])
    for diff_id in diff_ids[1:]:
        chain = ChainID(digest_of(f"{chain} {diff_id}".encode()))
    return chain
