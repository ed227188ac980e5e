"""Values in compressed files are found, however the files pass by, and no further than a bound."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from hashlib import sha256

import pytest
import zstandard

from builder.packedsearch import Bound, FileSearch
from builder.secretsearch import needles_of

VALUE = b"correct-horse-battery-staple"
NEEDLES = needles_of({"token": VALUE + b"\n", "other": b"something-else"})
# Letters enough for every compressor to encode them: nothing of the value lies there as it is.
NOISE = "".join(sha256(b"%d" % number).hexdigest() for number in range(500)).encode()
TEXT = NOISE + VALUE + NOISE


def zipped(*members: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for number, data in enumerate(members):
            archive.writestr(str(number), data)
    return out.getvalue()


def streamed_zip(*members: bytes) -> bytes:
    """Return a zip whose sizes stand behind the members: it was written to a pipe."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    out = Pipe()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(members):
            archive.writestr(str(number), data)
    return out.getvalue()


def tarred(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("x")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip of two members": lambda data: gzip.compress(b"first") + gzip.compress(data),
    "tar.gz": tarred,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "zip": lambda data: zipped(b"first" * 100, data, b"last"),
    "zip behind a stored member": lambda data: zipped(b"P", method=0)[:-60] + zipped(data),
    "zip from a pipe": lambda data: streamed_zip(b"first" * 100, data, b"last"),
}


def searched(data: bytes, piece_bytes: int, bound: Bound | None = None) -> FileSearch:
    search = FileSearch(NEEDLES, bound or Bound())
    for start in range(0, len(data), piece_bytes):
        search.feed(data[start : start + piece_bytes])
    return search


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
@pytest.mark.parametrize("how", PACKED)
def test_a_value_is_found(how: str, piece_bytes: int) -> None:
    search = searched(PACKED[how](TEXT), piece_bytes)
    assert (search.found, search.found_inside) == (set(), {"token"})


def test_what_is_not_compressed_is_found_as_such() -> None:
    for data in (TEXT, zipped(TEXT, method=zipfile.ZIP_STORED)):
        search = searched(data, 100)
        assert (search.found, search.found_inside) == ({"token"}, set())


@pytest.mark.parametrize("how", PACKED)
def test_damage_is_no_error(how: str) -> None:
    data = bytearray(PACKED[how](b"x" * 100_000))
    for place in range(0, len(data), max(1, len(data) // 50)):
        data[place] ^= 0xFF
        assert searched(bytes(data), 64).found_inside == set()
    assert searched(bytes(data[:10]), 64).found_inside == set()


@pytest.mark.parametrize("how", ["gzip", "xz", "zip"])
def test_there_is_a_bound(how: str) -> None:
    bound = Bound(1 << 20)
    bomb = PACKED[how](bytes(8 << 20) + TEXT)
    assert searched(bomb, 1 << 16, bound).found_inside == set()
    # Of one piece of output more than is allowed: never all that a bomb holds.
    assert -(1 << 20) < bound.left_bytes <= 0
    assert searched(PACKED[how](TEXT), 1 << 16, bound).found_inside == set()
