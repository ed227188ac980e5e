import os
import threading
import time
from pathlib import Path

import pytest

from store.trash import Deleter, delete_tree


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


def test_a_deleter_empties_the_trash_and_can_be_stopped(tmp_path: Path) -> None:
    def fill() -> None:
        for number in range(30):
            (tmp_path / f"tree{number}" / "a" / "b").mkdir(parents=True)
            (tmp_path / f"tree{number}" / "a" / "file").write_text("x")

    fill()
    deleter = Deleter(str(tmp_path))
    deleter.start()
    deleter.start()
    while list(tmp_path.iterdir()):
        pass
    deleter.stop()
    fill()
    deleter.start()
    deleter.stop()
    delete_tree(str(tmp_path / "tree0"), stop=lambda: True)
    delete_tree(str(tmp_path / "tree0"))
    assert not (tmp_path / "tree0").exists()


def fill(trash: Path, count: int) -> None:
    for number in range(count):
        (trash / f"tree{number}" / "a" / "b").mkdir(parents=True)
        (trash / f"tree{number}" / "a" / "file").write_text("x")


def test_what_is_small_is_gone_at_the_end(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    deleter = Deleter(str(tmp_path))
    deleter.finish()
    assert len(list(tmp_path.iterdir())) == 3  # it had not begun
    deleter.start()
    deleter.finish(patience_s=20)
    assert list(tmp_path.iterdir()) == []


def test_what_is_big_goes_on_in_another_process_that_holds_nothing(tmp_path: Path) -> None:
    trash, beside = tmp_path / "trash", tmp_path / "beside"
    trash.mkdir()
    beside.mkdir()
    (beside / "kept").write_text("x")
    fill(trash, 300)
    (trash / "link").symlink_to(beside)
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    deleter = Deleter(str(trash))
    deleter.start()
    deleter.finish(patience_s=0)
    os.close(writer)
    assert os.read(reader, 1) == b""  # nobody else has it
    os.close(reader)
    deadline = time.monotonic() + 20
    while list(trash.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(trash.iterdir()) == []
    assert (beside / "kept").exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_bytes_are_those_of_files_whose_last_name_goes(tmp_path: Path) -> None:
    (tmp_path / "top/below").mkdir(parents=True)
    (tmp_path / "top/one").write_bytes(b"12345")
    os.link(tmp_path / "top/one", tmp_path / "top/below/two")
    (tmp_path / "outside").write_bytes(b"1234567")
    os.link(tmp_path / "outside", tmp_path / "top/three")
    (tmp_path / "top/link").symlink_to("outside")
    assert delete_tree(str(tmp_path / "top")) == 5
    assert (tmp_path / "outside").exists()


def test_two_delete_the_same_tree(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for number in range(500):
        (top / f"d{number % 50}" / f"e{number}").mkdir(parents=True)
    failures = []

    def work() -> None:
        try:
            delete_tree(str(top))
            assert not top.exists(), "one came back before all was gone"
        except (OSError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not top.exists()
