import os
from pathlib import Path

from store.trash import delete_tree


def test_deletes_whatever_the_names_and_modes(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "shut" / "inner").mkdir(parents=True)
    (top / "shut" / "inner" / "file").write_text("x")
    (top / "shut").chmod(0)
    os.mkdir(os.fsencode(top) + b"/\xff\xfe")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (top / "link").symlink_to(outside)
    delete_tree(str(top))
    assert not top.exists()
    assert (outside / "kept").exists()


def test_deletes_trees_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("dd", dir_fd=fd)
        below = os.open("dd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    delete_tree(str(top))
    assert not top.exists()


def test_a_file_or_nothing_is_fine(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    delete_tree(str(tmp_path / "file"))
    delete_tree(str(tmp_path / "absent"))
    assert list(tmp_path.iterdir()) == []
