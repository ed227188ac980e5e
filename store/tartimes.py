"""A layer's tar with no time later than a given one: what reproducible images are made of.

Owns the change of times in tar headers, ustar and PAX; every other byte stays. A PAX header keeps
its length where it can, so that the rest of the tar keeps its place.
Source: BuildKit util/converter/tarconverter, RewriteTimestampInTarHeader: later times are clamped.
"""

import re
from collections.abc import Iterator

from store.errors import BadArchive
from store.tarreader import TarReader
from store.tarwriter import checksum

_BLOCK = 512
_TIMES = (b"mtime", b"atime", b"ctime")
_RECORD = re.compile(rb"(\d+) ([^=]+)=")


def clamped(tar: Iterator[bytes], epoch_s: int) -> Iterator[bytes]:
    """Yield the tar with every time after `epoch_s` (seconds since 1970) made that time.

    Raises BadArchive.
    """
    reader = TarReader(tar)
    while reader.next() is not None:
        yield _rewritten(bytes(reader.take_raw()), epoch_s)
        yield from reader.body()
    yield bytes(reader.take_raw())
    yield from reader.drain()


def _rewritten(raw: bytes, epoch_s: int) -> bytes:
    """Return the blocks between two bodies: padding, PAX headers, a header."""
    # The padding of the body before is no whole block, so headers are found from the end.
    start = len(raw) % _BLOCK
    parts, at = [raw[:start]], start
    while at < len(raw):
        block = raw[at : at + _BLOCK]
        kind = block[156:157]
        at += _BLOCK
        if not any(block):
            parts.append(block)
            continue
        size = int(block[124:136].split(b"\0")[0].strip() or b"0", 8) if kind in b"xgLK" else 0
        body, at = raw[at : at + size], at + size + -size % _BLOCK
        if kind == b"x":
            body = _pax(body, epoch_s)
            block = _with_size(block, len(body))
        parts += [_header(block, epoch_s), body + bytes(-len(body) % _BLOCK)]
    return b"".join(parts)


def _header(block: bytes, epoch_s: int) -> bytes:
    field = block[136:148]
    if field[0] & 0x80:  # GNU's binary numbers
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big", signed=False)
        later = not field[0] & 0x40 and value > epoch_s
    else:
        later = int(field.split(b"\0")[0].strip() or b"0", 8) > epoch_s
    if not later:
        return block
    return _summed(block[:136] + b"%011o\0" % epoch_s + block[148:])


def _with_size(block: bytes, size: int) -> bytes:
    return _summed(block[:124] + b"%011o\0" % size + block[136:])


def _summed(block: bytes) -> bytes:
    blank = block[:148] + b"        " + block[156:]
    return b"%b%06o\0 %b" % (blank[:148], checksum(blank), blank[156:])


def _pax(body: bytes, epoch_s: int) -> bytes:
    records, at = [], 0
    while at < len(body):
        match = _RECORD.match(body, at)
        if match is None or int(match[1]) < match.end() - at:
            raise BadArchive("a PAX header is malformed")
        end = at + int(match[1])
        record = body[at:end]
        if match[2] in _TIMES and float(body[match.end() : end - 1]) > epoch_s:
            record = _record(match[2], b"%d" % epoch_s)
        records.append(record)
        at = end
    return b"".join(records)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + len(b"%d" % len(rest))
    if len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest
