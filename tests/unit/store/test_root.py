import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from store import linux
from store.errors import NewerFormat, NotFound, StoreError
from store.root import VERSION, Store


def test_open_makes_a_store_once(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a" / "store") as store:
        digest = store.content.put(b"kept")
    with Store.open(tmp_path / "a" / "store", create=False) as store:
        assert store.content.get(digest) == b"kept"
        assert (Path(store.root) / "version").read_text() == f"{VERSION}\n"


def flags_of(path: Path) -> int:
    """Return a directory's FS_IOC_GETFLAGS; 0 where the file system has none."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    value = bytearray(8)
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, linux.FS_IOC_GETFLAGS, value)
    os.close(fd)
    return int.from_bytes(value, sys.byteorder)


def test_trees_that_have_nothing_in_common_lie_apart(tmp_path: Path) -> None:
    """As far as the file system knows of that: what chattr(1) can set is set."""
    (tmp_path / "probe").mkdir()
    chattr = subprocess.run(["chattr", "+T", tmp_path / "probe"], capture_output=True)
    expected = linux.FS_TOPDIR_FL if chattr.returncode == 0 else 0
    Store.open(tmp_path / "store").close()
    for name in ("snapshots", "tmp"):
        assert flags_of(tmp_path / "store" / name) & linux.FS_TOPDIR_FL == expected
    assert not flags_of(tmp_path / "store" / "locks") & linux.FS_TOPDIR_FL


def test_absent_and_not_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Store.open(tmp_path / "store", create=False)
    assert not (tmp_path / "store").exists()


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path)
    (tmp_path / "version").write_text(f"{VERSION + 1}\n")
    with pytest.raises(NewerFormat, match=f"format {VERSION + 1} is newer") as caught:
        Store.open(tmp_path)
    assert caught.value.hint


def test_a_damaged_version_is_one_error(tmp_path: Path) -> None:
    Store.open(tmp_path)
    (tmp_path / "version").write_text("")
    with pytest.raises(StoreError, match="holds no number"):
        Store.open(tmp_path)


def test_a_folder_of_others_is_not_filled(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"no store and holds 'thesis\.tex'"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_unfinished_store_is_finished(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "blobs").mkdir()
    Store.open(tmp_path)
    assert (tmp_path / "blobs" / "sha256").is_dir()


def test_many_open_at_once(tmp_path: Path) -> None:
    failures = []

    def work() -> None:
        try:
            Store.open(tmp_path / "store").content.put(b"x")
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_opening_imports_no_database_and_no_compressor() -> None:
    code = (
        "import sys, store.root; "
        "print(sorted({'sqlite3', 'zstandard', 'isal', 'json'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
