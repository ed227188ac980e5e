import random
from pathlib import Path

import pytest

from builder import derived
from builder.treecache import load, save
from grammar.parse import parse

DATA = random.Random(3).randbytes(10_000)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/file"
    assert derived.read(str(path)) is None
    for data in (DATA, b"", b"x"):
        assert derived.write(str(path), data)
        assert derived.read(str(path)) == data
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def damaged(whole: bytes) -> list[bytes]:
    """Return what a power cut can leave of a file: cut off, with zeros in it, of other bytes."""
    rng = random.Random(5)
    found = [b"", whole[:1], whole[:71], whole[:-1], bytes(len(whole)), whole + b"x"]
    for _ in range(200):
        at = rng.randrange(len(whole))
        found.append(whole[:at])
        found.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        zeros = bytes(min(512, len(whole) - at))
        found.append(whole[:at] + zeros + whole[at + len(zeros) :])
    return [data for data in found if data != whole]


def test_half_a_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    derived.write(str(path), DATA)
    for data in damaged(path.read_bytes()):
        path.write_bytes(data)
        assert derived.read(str(path)) is None


def test_half_a_tree_is_none(tmp_path: Path) -> None:
    path = tmp_path / "tree"
    tree = parse(b"FROM scratch AS x\nENV A=$B\nRUN --mount=target=/x echo hi\n", "Dockerfile")
    save(str(path), tree)
    assert load(str(path)) == tree
    for data in damaged(path.read_bytes()):
        path.write_bytes(data)
        assert load(str(path)) is None


@pytest.mark.parametrize("name", ["", "folder/file"])
def test_what_cannot_be_written_is_no_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").write_text("a file")
    assert not derived.write(str(tmp_path / name) if name else str(tmp_path), DATA)
