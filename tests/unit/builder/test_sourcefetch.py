import bz2
import gzip
import io
import lzma
import tarfile

import pytest

from builder.sourcefetch import is_archive


def tar(format: int = tarfile.PAX_FORMAT, name: str = "f") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        tar(),
        tar(tarfile.GNU_FORMAT),
        tar(tarfile.USTAR_FORMAT),
        tar(name="ä" * 200),
        tar(tarfile.GNU_FORMAT, "n" * 300),
        gzip.compress(b"", mtime=0),
        bz2.compress(b""),
        lzma.compress(b""),
        bytes(1024),
    ],
)
def test_archives(data: bytes) -> None:
    assert is_archive(data[:1024])


@pytest.mark.parametrize(
    "data", [b"", b"FROM scratch\n", b"# " + b"x" * 2000, b"\xef\xbb\xbfFROM x\n", tar()[:511]]
)
def test_dockerfiles(data: bytes) -> None:
    assert not is_archive(data[:1024])
