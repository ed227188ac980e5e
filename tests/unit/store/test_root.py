import subprocess
import sys
import threading
from pathlib import Path

import pytest

from store.errors import NewerFormat, NotFound, StoreError
from store.root import VERSION, Store


def test_open_makes_a_store_once(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a" / "store") as store:
        digest = store.content.put(b"kept")
    with Store.open(tmp_path / "a" / "store", create=False) as store:
        assert store.content.get(digest) == b"kept"
        assert (Path(store.root) / "version").read_text() == f"{VERSION}\n"


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
