"""Mount points made and taken away."""

import os

import pytest

from runtime.launch.stubs import open_target, remove_stubs


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/there").write_text("x")
    os.utime(folder / "etc", (1, 1_000_000_000))
    fd = os.open(folder, os.O_RDONLY)
    yield folder, fd
    os.close(fd)


def test_what_is_there_is_taken(root):
    _, fd = root
    made = []
    os.close(open_target(fd, "/etc/there", False, made))
    os.close(open_target(fd, "/", True, made))
    assert made == []


def test_made_and_removed_with_the_parents_that_were_made(root):
    folder, fd = root
    made = []
    os.close(open_target(fd, "/etc/a/b/c", True, made))
    os.close(open_target(fd, "/etc/a/file", False, made))
    assert (folder / "etc/a/b/c").is_dir()
    assert (folder / "etc/a/file").is_file()
    assert [stub[0] for stub in made] == ["etc/a", "etc/a/b", "etc/a/b/c", "etc/a/file"]
    assert (folder / "etc").stat().st_mtime == 1_000_000_000
    remove_stubs(fd, made)
    assert os.listdir(folder / "etc") == ["there"]
    assert (folder / "etc").stat().st_mtime == 1_000_000_000


def test_what_was_filled_or_replaced_stays(root):
    folder, fd = root
    made = []
    for path, is_dir in (("/d", True), ("/f", False), ("/g", True), ("/h", False)):
        os.close(open_target(fd, path, is_dir, made))
    (folder / "d/inside").touch()
    (folder / "f").write_text("grown")
    (folder / "g").rmdir()
    (folder / "keep").mkdir()
    (folder / "g").symlink_to("keep")
    (folder / "h").unlink()
    remove_stubs(fd, made)
    assert (folder / "d/inside").exists()
    assert (folder / "f").read_text() == "grown"
    assert (folder / "keep").is_dir()


def test_a_parent_that_became_a_symlink_is_not_followed(root, tmp_path):
    folder, fd = root
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    made = []
    os.close(open_target(fd, "/a/b", True, made))
    (folder / "a/b").rmdir()
    (folder / "a").rmdir()
    (folder / "a").symlink_to("etc")
    (folder / "etc/b").mkdir()
    remove_stubs(fd, made)
    assert (folder / "etc/b").is_dir()


def test_dots_are_refused_where_something_must_be_made(root):
    _, fd = root
    with pytest.raises(OSError, match=r"\.\."):
        open_target(fd, "/new/../../x", True, [])
