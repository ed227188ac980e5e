import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import Corrupt, NewerFormat
from store.headers import VERSION, DataRef, HeaderWriter, read

RAW = st.binary(min_size=1, max_size=2000)
REF = st.builds(
    DataRef, st.binary(min_size=1, max_size=300), st.integers(0, 1 << 40), st.integers(1, 1 << 40)
)


def written(records: list[bytes | DataRef]) -> bytes:
    file = io.BytesIO()
    writer = HeaderWriter(file)
    total = 0
    for record in records:
        if isinstance(record, bytes):
            writer.raw(record)
            total += len(record)
        else:
            writer.data(*record)
            total += record.size_bytes
    writer.finish(total)
    return file.getvalue()


def merged(records: list[bytes | DataRef]) -> list[bytes | DataRef]:
    """Join neighbouring bytes: where they are cut is the writer's business."""
    out: list[bytes | DataRef] = []
    for record in records:
        if isinstance(record, bytes) and out and isinstance(out[-1], bytes):
            out[-1] += record
        else:
            out.append(record)
    return out


@given(st.lists(RAW | REF, max_size=30))
def test_what_is_written_is_read(records: list[bytes | DataRef]) -> None:
    assert merged(list(read(io.BytesIO(written(records)), "x"))) == merged(records)


def test_long_runs() -> None:
    records: list[bytes | DataRef] = [b"ab" * 3_000_000, DataRef(b"p", 0, 7), b"\0" * 5_000_000]
    assert merged(list(read(io.BytesIO(written(records)), "x"))) == records


def test_a_header_takes_little_room() -> None:
    records: list[bytes | DataRef] = []
    for number in range(2000):
        name = b"usr/share/doc/package-%d/copyright" % number
        records += [name.ljust(512, b"\0"), DataRef(name, 0, 5)]
    assert len(written(records)) < 100 * 2000


@pytest.mark.parametrize("cut", [0, 5, 15, 16, 30, -1])
def test_cut_off(cut: int) -> None:
    data = written([b"header" * 100, DataRef(b"path", 0, 5)])[:cut]
    with pytest.raises(Corrupt):
        list(read(io.BytesIO(data), "layer x"))


def test_damaged() -> None:
    data = bytearray(written([bytes(range(256)) * 20]))
    for at in range(16, len(data)):
        broken = data.copy()
        broken[at] ^= 0xFF
        try:
            result = list(read(io.BytesIO(bytes(broken)), "layer x"))
        except Corrupt:
            continue
        # zstd without a checksum may miss a changed literal; the layer's digest will not.
        assert sum(map(len, result)) == 256 * 20


def test_newer() -> None:
    data = bytearray(written([b"x"]))
    data[15] = VERSION + 1
    with pytest.raises(NewerFormat, match="layer x: format 2"):
        list(read(io.BytesIO(bytes(data)), "layer x"))


def test_sizes_must_add_up() -> None:
    file = io.BytesIO()
    writer = HeaderWriter(file)
    writer.raw(b"x")
    writer.finish(2)
    file.seek(0)
    with pytest.raises(Corrupt, match="does not add up"):
        list(read(file, "layer x"))
