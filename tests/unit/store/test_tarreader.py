"""Tars made by Python's tarfile and by hand, read by ours."""

import io
import random
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import BadArchive
from store.tarreader import Member, TarReader
from store.tarwriter import Header, encode

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def members(data: bytes, size: int = 1 << 18) -> list[tuple[Member, bytes]]:
    reader = TarReader(pieces(data, size))
    found = []
    while (member := reader.next()) is not None:
        found.append((member, b"".join(reader.body())))
    return found


def made(format: int, *infos: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(
        fileobj=file, mode="w", format=format, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for info, data in infos:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def info(name: str, **values: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [1, 100, 512, 1 << 20])
def test_what_tarfile_writes(format: int, size: int) -> None:
    data = made(
        format,
        (info("dir", type=tarfile.DIRTYPE, mode=0o1777, uid=5, gid=6, mtime=7), b""),
        (info("dir/file", mode=0o4755, mtime=1_700_000_000), b"x" * 1000),
        (info("d" * 90 + "/" + "n" * 90), b"y"),
        (info("link", type=tarfile.LNKTYPE, linkname="dir/file"), b""),
        (info("symlink", type=tarfile.SYMTYPE, linkname="../../x"), b""),
        (info("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
        (info("fifo", type=tarfile.FIFOTYPE), b""),
    )
    found = members(data, size)
    assert [(m.name, m.kind, body) for m, body in found] == [
        (b"dir/", b"5", b""),
        (b"dir/file", b"0", b"x" * 1000),
        (b"d" * 90 + b"/" + b"n" * 90, b"0", b"y"),
        (b"link", b"1", b""),
        (b"symlink", b"2", b""),
        (b"null", b"3", b""),
        (b"fifo", b"6", b""),
    ]
    first, second = found[0][0], found[1][0]
    assert (first.mode, first.uid, first.gid, first.mtime_ns) == (0o1777, 5, 6, 7_000_000_000)
    assert (second.mode, second.size_bytes) == (0o4755, 1000)
    assert found[3][0].target == b"dir/file"
    assert (found[5][0].major, found[5][0].minor) == (1, 3)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_ustar_cannot_hold(format: int) -> None:
    name = "é" * 200 + "/\udcff" + "x" * 200
    data = made(format, (info(name, uid=3_000_000_000, mtime=-5, linkname=""), b"z"))
    ((member, body),) = members(data)
    assert member.name == name.encode("utf-8", "surrogateescape")
    assert (member.uid, member.mtime_ns, body) == (3_000_000_000, -5_000_000_000, b"z")


def test_fractions_of_seconds() -> None:
    data = made(tarfile.PAX_FORMAT, (info("x", mtime=1.5), b""))
    assert members(data)[0][0].mtime_ns == 1_500_000_000


def test_xattrs() -> None:
    data = encode(Header(b"x", b"0", xattrs=((b"user.a", b"\0\n=\xff"),))) + bytes(1024)
    assert members(data)[0][0].xattrs == ((b"user.a", b"\0\n=\xff"),)


@given(st.binary(max_size=3000), st.integers(1, 2000))
def test_every_byte_is_either_body_or_raw(tail: bytes, size: int) -> None:
    data = (
        made(tarfile.PAX_FORMAT, (info("é", mtime=0.5), b"a" * 700), (info("b"), b"b" * 512)) + tail
    )
    reader = TarReader(pieces(data, size))
    out = bytearray()
    while reader.next() is not None:
        out += reader.take_raw()
        out += b"".join(reader.body())
    out += reader.take_raw()
    out += b"".join(reader.drain())
    assert bytes(out) == data
    assert reader.offset == len(data)


def test_bodies_not_read_are_skipped() -> None:
    data = made(tarfile.GNU_FORMAT, (info("a"), b"a" * 5000), (info("b"), b"b"))
    reader = TarReader(pieces(data, 300))
    names = []
    while (member := reader.next()) is not None:
        names.append(member.name)
    assert names == [b"a", b"b"]


def test_ends_of_every_kind() -> None:
    one = encode(Header(b"a", b"0"))
    assert members(b"") == []
    assert members(bytes(1024)) == []
    assert members(bytes(512)) == []
    assert len(members(one)) == 1
    assert len(members(one + bytes(512))) == 1


def test_v7_directory_and_contiguous_file() -> None:
    old = bytearray(encode(Header(b"dir/", b"0")))
    old[156] = 0
    contiguous = bytearray(encode(Header(b"file", b"0")))
    contiguous[156] = ord("7")
    found = members(signed(old) + signed(contiguous))
    assert [(member.name, member.kind) for member, _ in found] == [
        (b"dir/", b"5"),
        (b"file", b"0"),
    ]


def test_global_headers_say_nothing() -> None:
    head = bytearray(encode(Header(b"pax_global_header", b"0", size_bytes=52)))
    head[156] = ord("g")
    body = b"52 comment=0123456789012345678901234567890123456789\n".ljust(512, b"\0")
    assert [m.name for m, _ in members(signed(head) + body + encode(Header(b"a", b"0")))] == [b"a"]


def signed(block: bytearray) -> bytes:
    """Return the block with a fresh checksum."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def changed(at: int, value: bytes, header: Header | None = None) -> bytes:
    block = bytearray(encode(header or Header(b"a", b"0")))
    block[at : at + len(value)] = value
    return signed(block)


def pax(records: bytes) -> bytes:
    block = bytearray(encode(Header(b"x", b"0", size_bytes=len(records))))
    block[156] = ord("x")
    return signed(block) + records.ljust(-(-len(records) // 512) * 512, b"\0")


BROKEN = {
    "cut in a header": (encode(Header(b"a", b"0"))[:300], "cut off"),
    "cut in a body": (encode(Header(b"a", b"0", size_bytes=600)) + b"x" * 599, "inside a file's"),
    "cut in padding": (encode(Header(b"a", b"0", size_bytes=1)) + b"x" * 100, "cut off"),
    "wrong checksum": (b"x" + encode(Header(b"a", b"0"))[1:], "offset 0: wrong header checksum"),
    "noise": (random.Random(3).randbytes(2048), "checksum"),
    "text": (b"<html>not found</html>".ljust(1024), "checksum"),
    "lone zero block": (bytes(512) + encode(Header(b"a", b"0")), "lone zero block"),
    "size no number": (changed(124, b"9999"), "size that is no number"),
    "negative size": (changed(124, b"\xff" * 12), "size that is no number"),
    "huge size": (changed(124, b"\x80\xff" + b"\xff" * 10), "a size of"),
    "mode no number": (changed(100, b"rwxr-xr"), "mode that is no number"),
    "negative owner": (changed(108, b"-000001"), "uid that is no number"),
    "pax without newline": (pax(b"9 path=xy"), "malformed PAX"),
    "pax length too short": (pax(b"3 path=x\n"), "malformed PAX"),
    "pax length too long": (pax(b"99 path=x\n"), "malformed PAX"),
    "pax length zero": (pax(b"0 path=x\n"), "malformed PAX"),
    "pax length no number": (pax(b"-9 path=x\n"), "malformed PAX"),
    "pax size no number": (pax(b"9 size=x\n") + encode(Header(b"a", b"0")), "size that is no"),
    "pax size negative": (pax(b"11 size=-1\n") + encode(Header(b"a", b"0")), "size that is no"),
    "pax too long": (changed(124, b"77777777777\0", Header(b"a", b"x")), "extended header of"),
    "long name too long": (changed(124, b"77777777777\0", Header(b"a", b"L")), "extended header"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("size", [100, 1 << 18])
def test_broken_tars_are_one_clear_error(name: str, size: int) -> None:
    data, cause = BROKEN[name]
    with pytest.raises(BadArchive, match=cause) as caught:
        members(data, size)
    assert str(caught.value).startswith("read tar at offset ")


def sparse_old_gnu() -> bytes:
    block = bytearray(encode(Header(b"hole", b"0", size_bytes=8)))
    block[156] = ord("S")
    block[257:265] = b"ustar  \0"
    block[345:512] = bytes(167)
    numbers = [0, 3, 100, 2, 200, 1, 300, 1]
    for index, number in enumerate(numbers):
        block[386 + 12 * index : 398 + 12 * index] = b"%011o\0" % number
    block[482] = 1
    block[483:495] = b"%011o\0" % 1000
    more = bytearray(512)
    more[0:12], more[12:24] = b"%011o\0" % 900, b"%011o\0" % 1
    return signed(block) + bytes(more) + b"abcdefgh".ljust(512, b"\0")


def record(key: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%b" % (length, rest)


SEGMENTS = [(0, 3), (100, 2), (200, 1), (300, 1), (900, 1)]


def sparse_pax_0_0() -> bytes:
    records = record(b"GNU.sparse.size", b"1000") + record(b"GNU.sparse.numblocks", b"5")
    for offset, size in SEGMENTS:
        records += record(b"GNU.sparse.offset", b"%d" % offset)
        records += record(b"GNU.sparse.numbytes", b"%d" % size)
    return pax(records) + body()


def sparse_pax_0_1() -> bytes:
    numbers = b",".join(b"%d,%d" % segment for segment in SEGMENTS)
    records = record(b"GNU.sparse.size", b"1000") + record(b"GNU.sparse.numblocks", b"5")
    records += record(b"GNU.sparse.name", b"hole") + record(b"GNU.sparse.map", numbers)
    return pax(records) + body()


def sparse_pax_1_0() -> bytes:
    lines = b"5\n" + b"".join(b"%d\n%d\n" % segment for segment in SEGMENTS)
    records = record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0")
    records += record(b"GNU.sparse.name", b"hole") + record(b"GNU.sparse.realsize", b"1000")
    return pax(records) + body(lines.ljust(512, b"\0"))


def body(prefix: bytes = b"") -> bytes:
    data = prefix + b"abcdefgh"
    return encode(Header(b"hole", b"0", size_bytes=len(data))) + data.ljust(
        -(-len(data) // 512) * 512, b"\0"
    )


@pytest.mark.parametrize(
    "tar", [sparse_old_gnu(), sparse_pax_0_0(), sparse_pax_0_1(), sparse_pax_1_0()]
)
@pytest.mark.parametrize("size", [7, 1 << 18])
def test_sparse_files(tar: bytes, size: int) -> None:
    found = members(tar + encode(Header(b"next", b"0")) + bytes(1024), size)
    member, data = found[0]
    assert (member.name, member.kind, member.size_bytes) == (b"hole", b"0", 1000)
    assert member.segments == tuple(SEGMENTS)
    assert data == b"abcdefgh"
    assert found[1][0].name == b"next"


@pytest.mark.parametrize(
    "records",
    [
        [(b"GNU.sparse.size", b"1000"), (b"GNU.sparse.map", b"0,3,100")],
        [(b"GNU.sparse.size", b"1000"), (b"GNU.sparse.map", b"0,3,2,5")],
        [(b"GNU.sparse.size", b"10"), (b"GNU.sparse.map", b"0,3,100,5")],
        [(b"GNU.sparse.size", b"1000"), (b"GNU.sparse.map", b"0,3,100,6")],
        [(b"GNU.sparse.size", b"1000"), (b"GNU.sparse.map", b"0,-3")],
        [(b"GNU.sparse.map", b"0,8")],
        [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"1")],
        [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")],
        [(b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.offset", b"1")],
    ],
)
def test_maps_that_make_no_sense(records: list[tuple[bytes, bytes]]) -> None:
    data = pax(b"".join(record(key, value) for key, value in records)) + body()
    with pytest.raises(BadArchive, match="a sparse file whose map is wrong"):
        members(data)
