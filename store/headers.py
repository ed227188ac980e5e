"""The header stream: all of a layer's tar except the files' bytes.

While a tar passes by, its headers, padding and end are kept as they are, and every run of file
bytes becomes a reference into the unpacked tree. With the tree, the exact tar comes out again; the
disk's owners, modes and times are never asked. Owns the format, refuses to know what is in a tar.

Format: `pybuild-headers`, one version byte, then one zstd stream of records. A record is a tag:
0 end: total size of the tar; 1 raw: length, bytes; 2 data: length of path, path, offset, length.
Numbers are LEB128. Paths are raw bytes, relative to the tree, without symlinks on the way.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import zstandard

from store.errors import Corrupt, NewerFormat

VERSION = 1
_MAGIC = b"pybuild-headers"
_END, _RAW, _DATA = 0, 1, 2
_FLUSH_BYTES = 1 << 18
_LONGEST_RAW = 1 << 20
_LONGEST_PATH = 1 << 20


class DataRef(NamedTuple):
    """A run of bytes of a file of the tree."""

    path: bytes
    offset: int
    size_bytes: int


_ONE_BYTE = [bytes((value,)) for value in range(0x80)]


def _number(value: int) -> bytes:
    if value < 0x80:
        return _ONE_BYTE[value]
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


class HeaderWriter:
    """Writes one header stream into an open file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._compressor = zstandard.ZstdCompressor(level=1).compressobj()
        self._records = bytearray()
        self._pending = bytearray()
        file.write(_MAGIC + bytes((VERSION,)))

    def raw(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes of the tar that are no file's."""
        self._pending += data
        if len(self._pending) >= _LONGEST_RAW:
            self._close_raw()

    def data(self, path: bytes, offset: int, size_bytes: int) -> None:
        """Append a run of file bytes by reference."""
        self._close_raw()
        self._records += b"%c%b%b%b%b" % (
            _DATA,
            _number(len(path)),
            path,
            _number(offset),
            _number(size_bytes),
        )
        if len(self._records) >= _FLUSH_BYTES:
            self._flush()

    def finish(self, tar_bytes: int) -> None:
        """End the stream; `tar_bytes` is the size of the whole tar."""
        self._close_raw()
        self._records += b"%c%b" % (_END, _number(tar_bytes))
        self._flush()
        self._file.write(self._compressor.flush())
        self._file.flush()

    def _close_raw(self) -> None:
        for start in range(0, len(self._pending), _LONGEST_RAW):
            part = self._pending[start : start + _LONGEST_RAW]
            self._records += b"%c%b%b" % (_RAW, _number(len(part)), bytes(part))
        if self._pending:
            self._pending = bytearray()
            if len(self._records) >= _FLUSH_BYTES:
                self._flush()

    def _flush(self) -> None:
        self._file.write(self._compressor.compress(bytes(self._records)))
        self._records.clear()


def read(file: BinaryIO, name: str) -> Iterator[bytes | DataRef]:
    """Yield the tar's raw bytes and its references, in order.

    name: what the stream belongs to, for errors. Raises Corrupt when it is damaged or cut off,
    NewerFormat when a later version wrote it.
    """
    start = file.read(len(_MAGIC) + 1)
    if len(start) != len(_MAGIC) + 1 or not start.startswith(_MAGIC):
        raise Corrupt(f"{name}: its header stream has the wrong first bytes")
    if start[-1] > VERSION:
        raise NewerFormat(
            f"{name}: format {start[-1]} of its header stream is newer than {VERSION}",
            hint="use the pybuild that made it",
        )
    records = _Records(zstandard.ZstdDecompressor().stream_reader(file), name)
    total = 0
    while (tag := records.take(1)[0]) != _END:
        if tag == _RAW:
            raw = records.take(records.number(_LONGEST_RAW))
            total += len(raw)
            yield raw
        elif tag == _DATA:
            path = records.take(records.number(_LONGEST_PATH))
            ref = DataRef(path, records.number(), records.number())
            total += ref.size_bytes
            yield ref
        else:
            raise Corrupt(f"{name}: its header stream has an unknown record {tag}")
    if records.number() != total:
        raise Corrupt(f"{name}: its header stream does not add up")


class _Records:
    """The decompressed records, read piece by piece."""

    def __init__(self, stream: zstandard.ZstdDecompressionReader, name: str) -> None:
        self._stream = stream
        self._name = name
        self._buffer = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._buffer):
            self._fill(count)
            end = count
        taken = self._buffer[self._at : end]
        self._at = end
        return taken

    def _fill(self, count: int) -> None:
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < count:
            try:
                part = self._stream.read(_FLUSH_BYTES)
            except zstandard.ZstdError as error:
                raise Corrupt(f"{self._name}: its header stream is damaged") from error
            if not part:
                raise Corrupt(f"{self._name}: its header stream is cut off")
            parts.append(part)
            have += len(part)
        self._buffer = b"".join(parts)
        self._at = 0

    def number(self, limit: int = (1 << 63) - 1) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if value > limit:
                raise Corrupt(f"{self._name}: its header stream holds an absurd number")
            if byte < 0x80:
                return value
            shift += 7
