"""Owners as notes, in attributes and in times."""

import pytest

from store.ownernote import (
    from_atime_ns,
    from_mode_note,
    from_note,
    to_atime_ns,
    to_mode_note,
    to_note,
)

LARGEST = 2**31 - 1
ENDS_NS = (2**34 - 2**31) * 10**9  # of what ext4 holds


@pytest.mark.parametrize("owner", [(0, 1), (1, 0), (1000, 1000), (65534, 5), (LARGEST, LARGEST)])
def test_what_is_noted_is_read(owner) -> None:
    assert from_note(to_note(*owner)) == owner
    atime_ns = to_atime_ns(*owner, 17)
    assert from_atime_ns(atime_ns) == owner
    assert atime_ns < ENDS_NS


def test_a_mode_holds_for_what_it_was_noted_for() -> None:
    note = to_mode_note(0o4000, 0o4600)
    assert from_mode_note(note, 0o4600) == 0o4000
    assert [from_mode_note(value, 0o644) for value in (note, b"", b"x:y", b"7")] == [0o644] * 4


def test_what_cannot_be_noted_is_roots() -> None:
    assert to_atime_ns(0, 0, 17) == to_atime_ns(LARGEST + 1, 5, 17) == 17
    for real_ns in (0, -1, 1_700_000_000 * 10**9, ENDS_NS):
        assert from_atime_ns(real_ns) == (0, 0)
    assert [from_note(value) for value in (b"", b"1", b"a:b", b"-1:2")] == [(0, 0)] * 4
