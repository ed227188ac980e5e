import bz2
import gzip
import itertools
import lzma
import random

import pytest
import zstandard

from store.compression import compressed, compressor_name, decompressed, detect, prefetched
from store.errors import BadArchive

NOISE = random.Random(1).randbytes(1_500_000)
DATA = NOISE + bytes(3_000_000) + b"hello" * 100_000


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("level", [None, 1, 2, 3, 4, 9])
def test_gzip(level: int | None) -> None:
    one = b"".join(compressed(pieces(DATA, 77_777), "gzip", level))
    assert gzip.decompress(one) == DATA
    assert b"".join(compressed([DATA], "gzip", level)) == one
    assert b"".join(decompressed(pieces(one, 1 << 16))) == DATA


@pytest.mark.parametrize("level", [None, 1, 10])
def test_zstd(level: int | None) -> None:
    one = b"".join(compressed(pieces(DATA, 77_777), "zstd", level))
    assert zstandard.ZstdDecompressor().decompressobj().decompress(one) == DATA
    assert b"".join(compressed([DATA], "zstd", level)) == one
    assert b"".join(decompressed(pieces(one, 1 << 16))) == DATA


COMPRESSORS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "none": bytes,
}


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_is_told_by_first_bytes(name: str, size: int) -> None:
    data = DATA[1_490_000:1_510_000]
    packed = COMPRESSORS[name](data)
    assert detect(packed) == name
    assert b"".join(decompressed(pieces(packed, size))) == data


@pytest.mark.parametrize("name", ["gzip", "zstd", "bzip2", "xz"])
def test_many_members(name: str) -> None:
    packed = COMPRESSORS[name](b"one") + COMPRESSORS[name](b"") + COMPRESSORS[name](DATA)
    assert b"".join(decompressed(pieces(packed, 5000))) == b"one" + DATA
    short = COMPRESSORS[name](b"one") + COMPRESSORS[name](b"two")
    assert b"".join(decompressed(pieces(short, 1))) == b"onetwo"


@pytest.mark.parametrize("name", ["gzip", "zstd", "bzip2", "xz"])
@pytest.mark.parametrize("cut", [8, 1000, -1])
def test_cut_off(name: str, cut: int) -> None:
    packed = COMPRESSORS[name](DATA)[:cut]
    with pytest.raises(BadArchive, match=f"decompress blob x \\({name}\\)"):
        list(decompressed([packed], name="blob x"))


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_damaged(name: str) -> None:
    packed = bytearray(COMPRESSORS[name](NOISE))
    packed[len(packed) // 2] ^= 0x55
    with pytest.raises(BadArchive, match="decompress"):
        list(decompressed([bytes(packed)]))


def test_zeros_may_follow_gzip_and_nothing_else() -> None:
    packed = gzip.compress(b"x")
    assert b"".join(decompressed([packed + bytes(100)])) == b"x"
    with pytest.raises(BadArchive, match="garbage"):
        list(decompressed([packed + b"garbage"]))


def test_a_skippable_zstd_frame_comes_first() -> None:
    frame = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    packed = frame + zstandard.ZstdCompressor().compress(b"data")
    assert b"".join(decompressed([packed])) == b"data"


@pytest.mark.parametrize("name", ["gzip", "zstd", "bzip2", "xz"])
def test_a_bomb_comes_in_small_pieces(name: str) -> None:
    packed = COMPRESSORS[name](bytes(100_000_000))
    biggest = max(map(len, itertools.islice(decompressed([packed]), 20)))
    assert biggest <= (1 << 26 if name == "zstd" else 1 << 20)


def test_empty() -> None:
    assert list(decompressed([])) == []
    for algorithm in ("gzip", "zstd", "none"):
        assert b"".join(decompressed(compressed([], algorithm))) == b""


def test_the_compressor_is_recorded_by_name() -> None:
    assert compressor_name("gzip") == "isal-1"
    assert compressor_name("gzip", 6) == "zlib-6"
    assert compressor_name("zstd") == "zstd-3"
    assert compressor_name("none") == "none"


def test_an_error_in_the_thread_is_raised_here() -> None:
    def chunks():
        yield b"one"
        raise ZeroDivisionError

    stream = prefetched(chunks())
    assert next(stream) == b"one"
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_a_stream_left_early_ends_its_thread() -> None:
    stream = prefetched(b"x" for _ in itertools.count())
    assert next(stream) == b"x"
    stream.close()
