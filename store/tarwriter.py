"""Tar headers from values, as Go's archive/tar writes them for BuildKit and containerd.

ustar wherever it can hold the value, else a PAX header before it. Source: POSIX.1-2017 pax,
"ustar Interchange Format" and "pax Extended Header"; Go's archive/tar for what POSIX leaves open.
"""

from typing import NamedTuple
from zlib import adler32

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
PAX = b"x"
END = bytes(1024)
XATTR = b"SCHILY.xattr."

_ZEROS = bytes(512)
_OCTAL_7 = 0o7777777
_OCTAL_11 = 0o77777777777


class Header(NamedTuple):
    """One entry of a tar; all text is raw bytes, a directory's name ends with a slash."""

    name: bytes
    kind: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size_bytes: int = 0
    mtime_s: int = 0
    target: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


def padding(size_bytes: int) -> bytes:
    """Return the zeros that fill the last block of a body."""
    return _ZEROS[: -size_bytes % 512]


def encode(header: Header) -> bytes:
    """Return the blocks that announce one entry: a ustar header, a PAX one before it if needed."""
    split = _split(header.name)
    records = _pax_records(header)
    if not records and split is not None:
        return _ustar(header, *split)
    # With PAX the name is not cut into two, as in Go.
    if len(header.name) > 100 or not header.name.isascii():
        records = _with_text(records, b"path", header.name)
    return _pax(header.name, records) + _ustar(_clipped(header), _ascii(header.name)[:100], b"")


def checksum(block: bytes) -> int:
    """Return the sum of a header's bytes as they are.

    The low half of adler32 is 1 + the sum modulo 65521, and half a header cannot reach that.
    """
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def _ustar(header: Header, name: bytes, prefix: bytes) -> bytes:
    block = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%bustar\x0000%b%07o\0%07o\0%b" % (
        name.ljust(100, b"\0"),
        header.mode,
        header.uid,
        header.gid,
        header.size_bytes,
        header.mtime_s,
        header.kind,
        header.target.ljust(100, b"\0"),
        _ZEROS[:64],
        header.major,
        header.minor,
        prefix.ljust(167, b"\0"),
    )
    return b"%b%06o\0 %b" % (block[:148], checksum(block), block[156:])


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Cut a name into ustar's name and prefix; None where it does not fit or is not ASCII."""
    if not name.isascii():
        return None
    if len(name) <= 100:
        return name, b""
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    if cut <= 0 or len(name) - cut - 1 > 100 or cut > 155:
        return None
    return name[cut + 1 :], name[:cut]


def _pax_records(header: Header) -> list[tuple[bytes, bytes]]:
    """Return what ustar cannot hold but for the name, sorted by key."""
    records = [(XATTR + key, value) for key, value in header.xattrs]
    for key, value, limit in (
        (b"uid", header.uid, _OCTAL_7),
        (b"gid", header.gid, _OCTAL_7),
        (b"size", header.size_bytes, _OCTAL_11),
        (b"mtime", header.mtime_s, _OCTAL_11),
    ):
        if not 0 <= value <= limit:
            records.append((key, b"%d" % value))
    if len(header.target) > 100 or not header.target.isascii():
        return _with_text(records, b"linkpath", header.target)
    return sorted(records)


def _with_text(
    records: list[tuple[bytes, bytes]], key: bytes, text: bytes
) -> list[tuple[bytes, bytes]]:
    """Add a name; one that is not UTF-8 goes as raw bytes, and is announced as such."""
    charset = [] if _is_utf8(text) else [(b"hdrcharset", b"BINARY")]
    return sorted({*records, *charset, (key, text)})


def _clipped(header: Header) -> Header:
    """Return the header with zero or a cut text where the PAX record holds the value."""
    return header._replace(
        uid=header.uid if header.uid <= _OCTAL_7 else 0,
        gid=header.gid if header.gid <= _OCTAL_7 else 0,
        size_bytes=header.size_bytes if header.size_bytes <= _OCTAL_11 else 0,
        mtime_s=header.mtime_s if 0 <= header.mtime_s <= _OCTAL_11 else 0,
        target=_ascii(header.target)[:100],
    )


def _pax(name: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(_pax_record(key, value) for key, value in records)
    parent, _, base = name.rstrip(b"/").rpartition(b"/")
    place = _ascii(b"/".join(part for part in (parent, b"PaxHeaders.0", base) if part))[:100]
    block = _ustar(Header(place, PAX, size_bytes=len(body)), place.rstrip(b"/"), b"")
    return block + body + padding(len(body))


def _pax_record(key: bytes, value: bytes) -> bytes:
    """Encode `LENGTH key=value`, where the length counts its own digits."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:
        length = len(rest) + len(str(length))
    return b"%d%b" % (length, rest)


def _ascii(text: bytes) -> bytes:
    return text if text.isascii() else bytes(byte for byte in text if byte < 0x80)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
