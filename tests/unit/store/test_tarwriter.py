"""Headers are judged by Python's tarfile, which we did not write."""

import io
import random
import tarfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store.tarwriter import END, Header, checksum, encode, padding

PART = st.binary(min_size=1, max_size=120).map(
    lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"0").replace(b"\n", b"n")
)
NAME = st.lists(PART, min_size=1, max_size=4).map(b"/".join)
HEADER = st.builds(
    Header,
    NAME,
    st.sampled_from([b"0", b"1", b"2", b"3", b"4", b"5", b"6"]),
    mode=st.integers(0, 0o7777),
    size_bytes=st.just(0),
    uid=st.integers(0, (1 << 32) - 2),
    gid=st.integers(0, (1 << 32) - 2),
    mtime_s=st.integers(-(1 << 40), 1 << 40),
    target=NAME,
    major=st.integers(0, 0xFFF),
    minor=st.integers(0, 0xFFFFF),
    xattrs=st.lists(
        st.tuples(st.sampled_from([b"user.a", b"user.b", b"security.capability"]), st.binary()),
        max_size=2,
        unique_by=lambda item: item[0],
    ).map(lambda found: tuple(sorted(found))),
)


def parsed(header: Header) -> tarfile.TarInfo:
    archive = io.BytesIO(encode(header) + END)
    with tarfile.open(fileobj=archive, encoding="utf-8", errors="surrogateescape") as tar:
        (member,) = tar.getmembers()
    return member


@given(HEADER)
@example(Header(b"a" * 100, b"0"))
@example(Header(b"a" * 101, b"0"))
@example(Header(b"d" * 155 + b"/" + b"n" * 100, b"0"))
@example(Header(b"d" * 156 + b"/" + b"n" * 100, b"0"))
@example(Header(b"d/" * 78 + b"n" * 100, b"0"))
@example(Header(b"\xff\xfe", b"2", target=b"\xfd"))
def test_tarfile_reads_what_we_write(header: Header) -> None:
    member = parsed(header)
    name = header.name.decode("utf-8", "surrogateescape")
    assert member.name == name
    assert member.type == header.kind
    assert (member.mode, member.uid, member.gid) == (header.mode, header.uid, header.gid)
    assert member.mtime == header.mtime_s
    assert member.linkname == header.target.decode("utf-8", "surrogateescape")
    assert (member.devmajor, member.devminor) == (header.major, header.minor)
    found = {
        key.removeprefix("SCHILY.xattr."): value.encode("utf-8", "surrogateescape")
        for key, value in member.pax_headers.items()
        if key.startswith("SCHILY.xattr.")
    }
    assert found == {key.decode(): value for key, value in header.xattrs}


@given(HEADER)
def test_blocks_are_whole_and_say_the_same_twice(header: Header) -> None:
    data = encode(header)
    assert len(data) % 512 == 0
    assert data == encode(header)


def test_plain_values_need_no_pax() -> None:
    header = Header(b"usr/bin/tool", b"0", 0o4755, 1000, 1000, 0, 1_700_000_000)
    assert len(encode(header)) == 512
    info = tarfile.TarInfo("usr/bin/tool")
    info.mode, info.uid, info.gid, info.mtime = 0o4755, 1000, 1000, 1_700_000_000
    theirs = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    assert encode(header)[:329] == theirs[:329] or encode(header)[:148] == theirs[:148]


@pytest.mark.parametrize(
    ("header", "keys"),
    [
        (Header(b"x", b"0", size_bytes=1 << 33), ["size"]),
        (Header(b"x", b"0", size_bytes=(1 << 33) - 1), []),
        (Header(b"x", b"0", uid=0o7777777), []),
        (Header(b"x", b"0", uid=0o10000000), ["uid"]),
        (Header(b"x", b"0", mtime_s=-1), ["mtime"]),
        (Header("ü".encode(), b"0"), ["path"]),
        (Header(b"\xfc", b"0"), ["hdrcharset", "path"]),
        (Header(b"x", b"2", target=b"y" * 101), ["linkpath"]),
    ],
)
def test_pax_only_where_ustar_cannot_hold_the_value(header: Header, keys: list[str]) -> None:
    blocks = encode(header)
    assert (len(blocks) > 512) == bool(keys)
    if keys:
        length = int(blocks[124:135], 8)
        records = blocks[512 : 512 + length].split(b"\n")[:-1]
        assert [record.split(b" ", 1)[1].split(b"=")[0].decode() for record in records] == keys


def test_checksum_is_exact() -> None:
    rng = random.Random(7)
    for block in (bytes(512), b"\xff" * 512, *(rng.randbytes(512) for _ in range(200))):
        assert checksum(block) == sum(block)


@pytest.mark.parametrize(("size", "zeros"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)])
def test_padding(size: int, zeros: int) -> None:
    assert padding(size) == bytes(zeros)
