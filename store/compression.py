"""Compression of layer blobs: found out by first bytes, done in threads.

isal does gzip's work, several times faster than zlib; its levels 0 to 3 stand for gzip's 1 to 3.
"""

import bz2
import lzma
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol, cast

import zstandard
from isal import isal_zlib

from store.errors import BadArchive

Algorithm = Literal["none", "gzip", "zstd"]

_BLOCK_BYTES = 1 << 20  # compressed on its own; never depends on the number of processors
_OUTPUT_BYTES = 1 << 19
_ZSTD_PIECE = 1 << 10
_THREADS = 4
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, unknown system
_GZIP_END = b"\x03\x00"  # an empty last block
_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)


# bz2 raises OSError for damaged data.
_DAMAGE: tuple[type[Exception], ...] = (
    cast(type[Exception], isal_zlib.IsalError),  # its stub says it is an instance
    zstandard.ZstdError,
    lzma.LZMAError,
    OSError,
    EOFError,
)


def detect(start: bytes) -> str:
    """Return the compression that the first bytes of a stream announce: gzip, zstd, … or none."""
    for magic, name in _MAGICS:
        if start.startswith(magic):
            return name
    # A skippable zstd frame may come first (zstd:chunked).
    if len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:
        return "zstd"
    return "none"


def decompressed(chunks: Iterable[bytes], *, name: str = "stream") -> Generator[bytes, None, None]:
    """Yield the plain bytes of a stream that may be compressed, worked out in a thread.

    name: what it is, for errors. Raises BadArchive for a damaged or cut off stream.
    """
    source = iter(chunks)
    start = b""
    while len(start) < 6 and (chunk := next(source, None)) is not None:
        start += chunk
    algorithm = detect(start)
    rest = _chained(start, source)
    if algorithm == "none":
        return rest
    return prefetched(_inflated(rest, algorithm, name))


def _chained(start: bytes, rest: Iterator[bytes]) -> Generator[bytes, None, None]:
    if start:
        yield start
    yield from rest


class _Inflater(Protocol):
    """What bz2, lzma, zlib and isal agree on."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


class Inflation:
    """A compressed stream of one or many members that is pushed in, piece by piece.

    name: what it is, for errors. is_single: it ends with its first member; `rest` is then what came
    behind that.
    """

    def __init__(self, algorithm: str, name: str = "stream", *, is_single: bool = False) -> None:
        self._algorithm, self._name, self._is_single = algorithm, name, is_single
        self.rest = b""
        self._make = _INFLATERS[algorithm]
        self._step, self._state = self._make()
        self._begun = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what the next bytes come to, in pieces of bounded size. Raises BadArchive."""
        while chunk:
            if self._state.eof:
                if self._is_single:
                    self.rest = chunk
                    return
                if self._algorithm == "gzip" and chunk[0] != 0x1F:
                    _expect_zeros(chunk, self._name)
                    return
                self._step, self._state = self._make()
            self._begun = True
            try:
                yield from self._step(chunk)
            except _DAMAGE as error:
                raise BadArchive(f"decompress {self._name} ({self._algorithm}): {error}") from error
            chunk = self._state.unused_data if self._state.eof else b""

    @property
    def is_cut_off(self) -> bool:
        """Whether more has to come."""
        return self._begun and not self._state.eof


def _inflated(chunks: Iterator[bytes], algorithm: str, name: str) -> Iterator[bytes]:
    """Inflate a stream of one or many members."""
    inflation = Inflation(algorithm, name)
    for chunk in chunks:
        yield from inflation.feed(chunk)
    if inflation.is_cut_off:
        raise BadArchive(f"decompress {name} ({algorithm}): it is cut off")


def _expect_zeros(chunk: bytes, name: str) -> None:
    """Allow zero padding behind a gzip stream, as gzip itself does."""
    if chunk.strip(b"\0"):
        raise BadArchive(f"decompress {name} (gzip): garbage follows its end")


_Step = Callable[[bytes], Iterator[bytes]]


def _zlib_inflater(wbits: int) -> tuple[_Step, _Inflater]:
    inflater = isal_zlib.decompressobj(wbits=wbits)

    def step(chunk: bytes) -> Iterator[bytes]:
        # Bounded output: a few bytes may inflate to gigabytes.
        while chunk:
            data = inflater.decompress(chunk, _OUTPUT_BYTES)
            chunk = inflater.unconsumed_tail
            if data:
                yield data
            elif not chunk or inflater.eof:
                break
        while not inflater.eof and (data := inflater.decompress(b"", _OUTPUT_BYTES)):
            yield data

    return step, inflater


def _bounded_inflater(
    inflater: bz2.BZ2Decompressor | lzma.LZMADecompressor,
) -> tuple[_Step, _Inflater]:
    def step(chunk: bytes) -> Iterator[bytes]:
        yield inflater.decompress(chunk, _OUTPUT_BYTES)
        while not inflater.eof and not inflater.needs_input:
            yield inflater.decompress(b"", _OUTPUT_BYTES)

    return step, inflater


class _ZstdInflater:
    """One zstd frame, fed in small pieces: a few kilobytes may inflate to gigabytes."""

    def __init__(self) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        self._frame = decompressor.decompressobj(write_size=_OUTPUT_BYTES)
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return self._frame.eof

    def step(self, chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), _ZSTD_PIECE):
            stop = start + _ZSTD_PIECE
            yield self._frame.decompress(chunk[start:stop])
            if self._frame.eof:
                self.unused_data = self._frame.unused_data + chunk[stop:]
                return


def _zstd_inflater() -> tuple[_Step, _Inflater]:
    inflater = _ZstdInflater()
    return inflater.step, inflater


_INFLATERS: dict[str, Callable[[], tuple[_Step, _Inflater]]] = {
    "gzip": lambda: _zlib_inflater(31),
    "deflate": lambda: _zlib_inflater(-15),
    "zstd": _zstd_inflater,
    "bzip2": lambda: _bounded_inflater(bz2.BZ2Decompressor()),
    "xz": lambda: _bounded_inflater(lzma.LZMADecompressor()),
}


def compressed(
    chunks: Iterable[bytes], algorithm: Algorithm, level: int | None = None
) -> Iterator[bytes]:
    """Yield `chunks` compressed; the same bytes in give the same bytes out.

    level: 1 to 9 for gzip (default 1), 1 to 22 for zstd (default 3).
    """
    if algorithm == "none":
        return iter(chunks)
    if algorithm == "gzip":
        return _gzip(chunks, 1 if level is None else level)
    return prefetched(_zstd(chunks, 3 if level is None else level))


def compressor_name(algorithm: Algorithm, level: int | None = None) -> str:
    """Return who compresses at this level, to be recorded: other compressors give other bytes."""
    if algorithm == "gzip":
        level = 1 if level is None else level
        return f"isal-{_isal_level(level)}" if level <= 3 else f"zlib-{level}"
    return algorithm if algorithm == "none" else f"zstd-{3 if level is None else level}"


def _isal_level(level: int) -> int:
    return {0: 0, 1: 1, 2: 2, 3: 3}[level]


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a stream into blocks of one size, whatever pieces it comes in."""
    parts: list[bytes] = []
    have = 0
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            piece = view[: _BLOCK_BYTES - have]
            parts.append(bytes(piece))
            have += len(piece)
            view = view[len(piece) :]
            if have == _BLOCK_BYTES:
                yield b"".join(parts)
                parts, have = [], 0
    if parts:
        yield b"".join(parts)


def _deflate(block: bytes, level: int) -> bytes:
    if level <= 3:
        deflater = isal_zlib.compressobj(_isal_level(level), wbits=-15)
        return deflater.compress(block) + deflater.flush(isal_zlib.Z_SYNC_FLUSH)
    plain = zlib.compressobj(level, wbits=-15)
    return plain.compress(block) + plain.flush(zlib.Z_SYNC_FLUSH)


def _gzip(chunks: Iterable[bytes], level: int) -> Generator[bytes, None, None]:
    """One gzip member of blocks deflated side by side."""
    checksum = size = 0
    running: deque[Future[bytes]] = deque()
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="gzip")
    try:
        yield _GZIP_HEADER
        for block in _blocks(chunks):
            running.append(pool.submit(_deflate, block, level))
            checksum = isal_zlib.crc32(block, checksum)
            size += len(block)
            if len(running) > _THREADS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    yield _GZIP_END + checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def _zstd(chunks: Iterable[bytes], level: int) -> Iterator[bytes]:
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
    for block in _blocks(chunks):
        data = compressor.compress(block)
        if data:
            yield data
    yield compressor.flush()


_STOP = object()


def prefetched(chunks: Iterator[bytes], depth: int = 8) -> Generator[bytes, None, None]:
    """Yield `chunks`, made by a thread up to `depth` pieces ahead; its errors are raised here."""
    queue: deque[object] = deque()
    filled, free = threading.Semaphore(0), threading.Semaphore(depth)
    stopped = False

    def work() -> None:
        last: object = _STOP
        try:
            for chunk in chunks:
                free.acquire()
                if stopped:
                    break
                queue.append(chunk)
                filled.release()
        except BaseException as error:
            last = error
        queue.append(last)
        filled.release()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            filled.acquire()
            item = queue.popleft()
            if isinstance(item, bytes):
                free.release()
                yield item
            elif isinstance(item, BaseException):
                raise item
            else:
                return
    finally:
        stopped = True
        free.release()
        thread.join()
