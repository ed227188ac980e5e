"""Lines are cut where they end, wherever the bytes were cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.cli.loglines import LogLines


def lines_of(*chunks: bytes) -> list[bytes]:
    log = LogLines()
    lines = [line for chunk in chunks if chunk for _, line in log.feed(1, chunk, 0.0)]
    return [*lines, *(line for _, line in log.rest())]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"one\ntwo\n", [b"one", b"two"]),
        (b"one\r\n\r\ntwo", [b"one", b"", b"two"]),
        (b"\r 1%\r 2%\n", [b" 1%", b" 2%"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
        (b"\n", [b""]),
        (b"\x0b\x0c\x1c\x85\n", [b"\x0b\x0c\x1c\x85"]),
    ],
)
def test_lines(data: bytes, expected: list[bytes]) -> None:
    assert lines_of(data) == expected


@given(st.lists(st.sampled_from([b"\r", b"\n", b"a", b"bc", b"\xff"])), st.data())
def test_where_the_chunks_are_cut_makes_no_difference(parts: list[bytes], data: st.DataObject):
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole)))
    assert lines_of(whole[:cut], whole[cut:]) == lines_of(whole)
    assert lines_of(*parts) == lines_of(whole)


def test_a_long_line_in_many_chunks_is_whole() -> None:
    chunks = [b"%07d" % number for number in range(20_000)]
    assert lines_of(*chunks, b"\n") == [b"".join(chunks)]


def test_the_two_descriptors_do_not_mix() -> None:
    log = LogLines()
    assert log.feed(1, b"out", 1.0) == []
    assert log.feed(2, b"err\n", 2.0) == [(2.0, b"err")]
    assert log.feed(1, b"!\n", 3.0) == [(1.0, b"out!")]
