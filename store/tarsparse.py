"""The maps of sparse files in tars: old GNU, PAX 0.0, 0.1 and 1.0.

Every function gives (size of the whole file, segments), a segment being (offset, size in bytes) of
a run of data, and raises ValueError for a map that makes no sense. Source: GNU tar manual,
"Storing Sparse Files".
"""

from collections.abc import Callable, Mapping, Sequence

from store.tarnumbers import decimal, unsigned

_MOST_SEGMENTS = 1 << 20

Map = tuple[int, tuple[tuple[int, int], ...]]


def is_sparse(records: Mapping[bytes, bytes]) -> bool:
    """Tell whether PAX records announce a sparse file. Raises no error."""
    return (
        b"GNU.sparse.major" in records
        or b"GNU.sparse.map" in records
        or b"GNU.sparse.numblocks" in records
    )


def old_gnu(block: bytes, next_block: Callable[[], bytes]) -> Map:
    """Read the map in a GNU header of type S and in the blocks that extend it."""
    segments = _old_gnu_entries(block[386:482])
    more = block[482]
    while more:
        if len(segments) > _MOST_SEGMENTS:
            raise ValueError("too many segments")
        extension = next_block()
        segments += _old_gnu_entries(extension[:504])
        more = extension[504]
    return unsigned(block[483:495]), tuple(segments)


def _old_gnu_entries(field: bytes) -> list[tuple[int, int]]:
    entries = []
    for at in range(0, len(field), 24):
        if not field[at]:
            break
        entries.append((unsigned(field[at : at + 12]), unsigned(field[at + 12 : at + 24])))
    return entries


def pax_0(records: Mapping[bytes, bytes], repeated: Sequence[tuple[bytes, bytes]]) -> Map:
    """Read the map of format 0.1 (one record) or 0.0 (a pair of records a segment)."""
    if b"GNU.sparse.map" in records:
        text = records[b"GNU.sparse.map"]
        numbers = [decimal(number) for number in text.split(b",")] if text else []
    else:
        numbers = [decimal(number) for _, number in repeated]
        keys = [key for key, _ in repeated]
        if keys != [b"GNU.sparse.offset", b"GNU.sparse.numbytes"] * (len(keys) // 2):
            raise ValueError("offsets and sizes do not alternate")
    return decimal(records.get(b"GNU.sparse.size", b"")), _pairs(numbers)


def pax_1(records: Mapping[bytes, bytes], next_block: Callable[[], bytes]) -> Map:
    """Read the map of format 1.0: lines of decimal numbers in the first blocks of the body."""
    if records.get(b"GNU.sparse.minor") != b"0":
        raise ValueError("an unknown format")
    text = b""
    while b"\n" not in text:
        text += next_block()
        if len(text) > 512:
            raise ValueError("no count")
    count = decimal(text[: text.index(b"\n")])
    if count > _MOST_SEGMENTS:
        raise ValueError("too many segments")
    blocks = [text]
    lines = text.count(b"\n")
    while lines < 2 * count + 1:
        blocks.append(next_block())
        lines += blocks[-1].count(b"\n")
    numbers = b"".join(blocks).split(b"\n")[1 : 2 * count + 1]
    size = records.get(b"GNU.sparse.realsize", b"")
    return decimal(size), _pairs([decimal(number) for number in numbers])


def _pairs(numbers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    if len(numbers) % 2:
        raise ValueError("an offset without a size")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def check(segments: Sequence[tuple[int, int]], size: int, body: int) -> None:
    """Raise ValueError unless the segments ascend, stay inside the file and fill the body."""
    end = 0
    for offset, length in segments:
        if offset < end:
            raise ValueError("segments overlap")
        end = offset + length
    if end > size or size >= 1 << 63:
        raise ValueError("a segment lies behind the end of the file")
    if sum(length for _, length in segments) != body:
        raise ValueError("segments and body differ in size")
