"""What is told of the lines of a file that changed."""

from pathlib import Path

import pytest

from builder.linecounts import LineCounts, changed_lines
from store.digest import digest_of


@pytest.mark.parametrize(
    ("before", "now", "counts"),
    [
        (b"a\nb\nc\n", b"a\nB\nc\n", (1, 1)),
        (b"a\n", b"a\nb\nb\n", (2, 0)),
        (b"a\na\nb", b"b", (0, 2)),
        (b"a\nb\n", b"b\na\n", (0, 0)),
        (b"a\n", b"a\r\n", (1, 1)),
        (b"a\n", b"a", (1, 1)),
        (b"", b"x", (1, 0)),
    ],
)
def test_lines_that_came_and_went(before: bytes, now: bytes, counts: tuple[int, int]) -> None:
    assert changed_lines(before, now) == counts


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("grün\n".encode(), b"gruen\n", True),
        (b"a\0\n", b"a\n", False),
        (b"a\n", b"a\0\n", False),
        (b"\x1f\x8b\n", b"a\n", False),
        (b"a\n", b"\xff\n", False),
    ],
)
def test_only_text_has_lines(tmp_path: Path, before: bytes, now: bytes, told: bool) -> None:
    for folder, data in (("layer/d", before), ("context", now)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "f").write_bytes(data)
    counts = LineCounts(str(tmp_path / "layer"), str(tmp_path / "context"), "/d/")
    assert counts.of(["f"], {"f": digest_of(before)}) == ({"f": (1, 1)} if told else {})
    assert counts.of(["f"], {"f": digest_of(b"another")}) == {}
