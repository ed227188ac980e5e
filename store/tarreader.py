"""Reading a tar as it streams by: ustar, PAX, GNU, v7, sparse files of every kind.

Yields members and their bodies and keeps every other byte, so that the exact tar can be made
again. Writes nothing; whoever unpacks decides what a name may mean. Anything malformed is one
BadArchive that names the offset. Where tars are ambiguous it follows Go's archive/tar, so that an
image means the same to us as to containerd.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from store import tarsparse
from store.errors import BadArchive
from store.tarnumbers import decimal, integer, pax_nanoseconds, unsigned
from store.tarwriter import XATTR, checksum

CHUNK_BYTES = 1 << 18

_ZERO_BLOCK = bytes(512)
_LONGEST_SPECIAL = 1 << 20  # as Go: no long name or PAX header is honestly bigger
_BODYLESS = b"123456"
_LARGEST = (1 << 63) - 1

Segments = tuple[tuple[int, int], ...]


class Member(NamedTuple):
    """One entry: `kind` is its type flag, b"0" for every sort of regular file.

    segments: (offset, size_bytes) of each run of data in the body of a sparse file, else None.
    size_bytes: of the file once unpacked. xattrs: names without SCHILY.xattr.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    target: bytes
    major: int
    minor: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    segments: Segments | None


def chunks_of(file: BinaryIO, size_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield what an open file holds, in pieces."""
    while chunk := file.read(size_bytes):
        yield chunk


class TarReader:
    """A forward-only reader: `next` gives a member, then `body` its bytes, in that order."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer: bytes = b""
        self._at = 0
        self._base = 0  # offset in the tar of the buffer's first byte
        self._raw = bytearray()
        self._left = 0  # bytes of the current body not read yet
        self._padding = 0

    @property
    def offset(self) -> int:
        """How many bytes of the tar were read."""
        return self._base + self._at

    def take_raw(self) -> bytearray:
        """Return the bytes read since the last call that were not part of a body."""
        raw, self._raw = self._raw, bytearray()
        return raw

    def next(self) -> Member | None:
        """Read up to the next member's body; None at the end of the archive.

        What is left of the body before is skipped. Raises BadArchive.
        """
        for _ in self.body():
            pass
        self._raw += self._read(self._padding)
        self._padding = 0
        extended: dict[bytes, bytes] = {}
        long_names: dict[bytes, bytes] = {}
        repeated: list[tuple[bytes, bytes]] = []
        while (block := self._header()) is not None:
            kind = block[156:157]
            if kind == b"x":
                extended, repeated = self._pax(block)
            elif kind in (b"L", b"K"):
                key = b"path" if kind == b"L" else b"linkpath"
                long_names[key] = self._special(block).split(b"\0", 1)[0]
            elif kind == b"g":
                self._special(block)  # containerd ignores global headers, so identity asks us to
            else:
                return self._member(block, extended | long_names, repeated)
        return None

    def body(self) -> Iterator[bytes]:
        """Yield the current member's bytes, in pieces as they came. Raises BadArchive."""
        while self._left:
            if self._at == len(self._buffer) and not self._refill():
                raise self._bad("the archive ends inside a file's data")
            piece = self._buffer[self._at : self._at + self._left]
            self._at += len(piece)
            self._left -= len(piece)
            yield piece

    def small_body(self) -> bytes:
        """Return the current member's whole body when it is at hand, else nothing is read."""
        end = self._at + self._left
        if end > len(self._buffer):
            return b""
        piece = self._buffer[self._at : end]
        self._at = end
        self._left = 0
        return piece

    def drain(self) -> Iterator[bytes]:
        """Yield what follows the end of the archive: padding of the last record, or anything."""
        while self._at < len(self._buffer) or self._refill():
            piece = self._buffer[self._at :]
            self._at = len(self._buffer)
            yield piece

    def _refill(self) -> bool:
        self._base += len(self._buffer)
        self._at = 0
        for chunk in self._chunks:
            if chunk:
                self._buffer = chunk
                return True
        self._buffer = b""
        return False

    def _read(self, count: int) -> bytes:
        """Return exactly `count` bytes. Raises BadArchive when the tar ends before."""
        end = self._at + count
        if end <= len(self._buffer):
            piece = self._buffer[self._at : end]
            self._at = end
            return piece
        parts = []
        while count:
            if self._at == len(self._buffer) and not self._refill():
                raise self._bad("the archive is cut off")
            piece = self._buffer[self._at : self._at + count]
            self._at += len(piece)
            count -= len(piece)
            parts.append(piece)
        return b"".join(parts)

    def _header(self) -> bytes | None:
        """Return the next header block, its checksum verified; None at the end."""
        if self._at == len(self._buffer) and not self._refill():
            return None  # no end mark: Go, GNU tar and Python accept that
        block = self._read(512)
        self._raw += block
        if block == _ZERO_BLOCK:
            if self._at < len(self._buffer) or self._refill():
                second = self._read(512)
                self._raw += second
                if second != _ZERO_BLOCK:
                    raise self._bad("a lone zero block stands before a header")
            return None
        stored = self._field(unsigned, block[148:156], "checksum")
        if not _sums_up(block, stored):
            raise self._bad("wrong header checksum", 512)
        return block

    def _special(self, block: bytes) -> bytes:
        """Return the body of a header that only describes the next one."""
        size = self._field(unsigned, block[124:136], "size")
        if size > _LONGEST_SPECIAL:
            raise self._bad(f"an extended header of {size} bytes")
        body = self._read(size)
        self._raw += body
        self._raw += self._read(-size % 512)
        return body

    def _pax(self, block: bytes) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes]]]:
        """Return a PAX header's records; GNU's repeated sparse records apart, in order."""
        body = self._special(block)
        records: dict[bytes, bytes] = {}
        repeated: list[tuple[bytes, bytes]] = []
        while body:
            digits, space, rest = body[:20].partition(b" ")
            length = int(digits) if digits.isdigit() else 0
            record = body[len(digits) + 1 : length]
            key, equals, value = record.partition(b"=")
            well_formed = space and rest and equals and key and length <= len(body)
            if not well_formed or record[-1:] != b"\n":
                raise self._bad("a malformed PAX record")
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                repeated.append((key, value[:-1]))
            else:
                records[key] = value[:-1]
            body = body[length:]
        return records, repeated

    def _member(
        self, block: bytes, extended: dict[bytes, bytes], repeated: list[tuple[bytes, bytes]]
    ) -> Member:
        kind = block[156:157]
        name = extended.get(b"path") or _ustar_name(block)
        size = self._number(extended, b"size", block[124:136])
        if kind == b"\0":
            kind = b"5" if name.endswith(b"/") else b"0"
        elif kind == b"7":
            kind = b"0"
        self._left = 0 if kind in _BODYLESS else size
        self._padding = -self._left % 512
        member = Member(
            name,
            kind,
            self._field(integer, block[100:108], "mode") & 0o7777,
            self._number(extended, b"uid", block[108:116]),
            self._number(extended, b"gid", block[116:124]),
            self._left,
            self._mtime_ns(extended, block),
            extended.get(b"linkpath") or block[157:257].split(b"\0", 1)[0],
            *self._device(kind, block),
            tuple(
                (key[len(XATTR) :], value)
                for key, value in extended.items()
                if key.startswith(XATTR)
            )
            if extended
            else (),
            None,
        )
        if kind == b"S" or (extended and tarsparse.is_sparse(extended)):
            return self._sparse(member, block, extended, repeated)
        return member

    def _sparse(
        self,
        member: Member,
        block: bytes,
        extended: dict[bytes, bytes],
        repeated: list[tuple[bytes, bytes]],
    ) -> Member:
        """Return the member of a sparse file; the map in front of its body is read."""
        try:
            if member.kind == b"S":
                size, segments = tarsparse.old_gnu(block, self._extension)
            elif extended.get(b"GNU.sparse.major") == b"1":
                size, segments = tarsparse.pax_1(extended, self._map_block)
            else:
                size, segments = tarsparse.pax_0(extended, repeated)
            tarsparse.check(segments, size, self._left)
        except ValueError as error:
            raise self._bad(f"a sparse file whose map is wrong: {error}") from error
        name = extended.get(b"GNU.sparse.name") or member.name
        return member._replace(name=name, kind=b"0", size_bytes=size, segments=segments)

    def _extension(self) -> bytes:
        block = self._read(512)
        self._raw += block
        return block

    def _map_block(self) -> bytes:
        if self._left < 512:
            raise ValueError("it is longer than the body")
        self._left -= 512
        return self._extension()

    def _device(self, kind: bytes, block: bytes) -> tuple[int, int]:
        if kind not in (b"3", b"4"):
            return 0, 0
        return (
            self._field(unsigned, block[329:337], "device number"),
            self._field(unsigned, block[337:345], "device number"),
        )

    def _mtime_ns(self, extended: dict[bytes, bytes], block: bytes) -> int:
        text = extended.get(b"mtime")
        if text:
            return self._field(pax_nanoseconds, text, "mtime")
        return self._field(integer, block[136:148], "mtime") * 1_000_000_000

    def _number(self, extended: dict[bytes, bytes], key: bytes, field: bytes) -> int:
        text = extended.get(key)
        what = key.decode()
        value = self._field(decimal, text, what) if text else self._field(unsigned, field, what)
        if value > _LARGEST:
            raise self._bad(f"a {what} of {value}")
        return value

    def _field(self, parse: Callable[[bytes], int], field: bytes, what: str) -> int:
        try:
            return parse(field)
        except ValueError as error:
            raise self._bad(f"a {what} that is no number: {field!r}", 512) from error

    def _bad(self, cause: str, back: int = 0) -> BadArchive:
        return BadArchive(f"read tar at offset {self.offset - back}: {cause}")


def is_header(block: bytes) -> bool:
    """Tell whether 512 bytes are a header of a tar, or begin its end."""
    try:
        return block == _ZERO_BLOCK or _sums_up(block, unsigned(block[148:156]))
    except ValueError:
        return False


def _sums_up(block: bytes, stored: int) -> bool:
    bare = block[:148] + b"        " + block[156:]
    return checksum(bare) == stored or sum(b - (b > 127) * 256 for b in bare) == stored


def _ustar_name(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    # GNU's magic is "ustar  ": it has times and sparse maps where POSIX has the prefix.
    if block[345] and block[257:263] == b"ustar\0":
        prefix = block[345:500].split(b"\0", 1)[0]
        return b"%b/%b" % (prefix, name)
    return name
