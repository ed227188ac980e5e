"""Whether two layers hold the same but for times that the caller takes to be the same.

Compares the tars that the layers are, entry by entry and byte by byte: names and their order,
kinds, modes, owners, devices, xattrs, links and whiteouts are all in there.
"""

import contextlib
from collections.abc import Callable, Iterator
from itertools import zip_longest

from store.restream import Source, stream
from store.tarreader import Member, TarReader

SameTime = Callable[[int, int], bool]


def alike(first: Source, second: Source, same_time: SameTime) -> bool:
    """Tell whether two layers differ in nothing but times.

    same_time: told two unequal mtimes of one entry (ns since the epoch), the first layer's first;
    whether they count as the same. Raises Corrupt when a layer is damaged.
    """
    with (
        contextlib.closing(stream(first)) as first_tar,
        contextlib.closing(stream(second)) as second_tar,
    ):
        pair = TarReader(first_tar), TarReader(second_tar)
        while True:
            one, other = pair[0].next(), pair[1].next()
            if one is None or other is None:
                return one is other
            if not _same_entry(one, other, same_time):
                return False
            if not _same_bytes(pair[0].body(), pair[1].body()):
                return False


def _same_entry(one: Member, other: Member, same_time: SameTime) -> bool:
    if one._replace(mtime_ns=0) != other._replace(mtime_ns=0):
        return False
    return one.mtime_ns == other.mtime_ns or same_time(one.mtime_ns, other.mtime_ns)


def _same_bytes(one: Iterator[bytes], other: Iterator[bytes]) -> bool:
    """Tell whether two streams of the same length are equal, however each is cut into pieces."""
    ahead, behind = b"", b""
    for left, right in zip_longest(one, other, fillvalue=b""):
        ahead, behind = ahead + left, behind + right
        common = min(len(ahead), len(behind))
        if ahead[:common] != behind[:common]:
            return False
        ahead, behind = ahead[common:], behind[common:]
    return ahead == behind
