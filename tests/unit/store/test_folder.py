import os
from pathlib import Path

import pytest

from store.errors import InUse
from store.folder import Folder, durable_rename, write_durably
from store.root import Store


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Store.open(tmp_path / "store").folder


def test_a_sweep_leaves_claimed_scratch_alone(folder: Folder) -> None:
    living, dead = folder.scratch_directory(), folder.scratch_directory()
    file = folder.scratch_file()
    os.mkdir(f"{dead.path}/below")
    os.close(dead.fd)
    folder.sweep()
    assert os.path.isdir(living.path)
    assert os.path.exists(file.path)
    assert not os.path.exists(dead.path)
    os.close(living.fd)
    os.close(file.fd)
    folder.sweep()
    assert os.listdir(folder.path("tmp")) == []


def test_a_sweep_empties_the_trash(folder: Folder) -> None:
    os.makedirs(folder.path("trash", "left", "by", "a", "kill"))
    folder.sweep()
    assert os.listdir(folder.path("trash")) == []


def test_a_lease_keeps_the_collector_out(folder: Folder) -> None:
    with folder.lease(), folder.lease():
        with pytest.raises(InUse, match="uses the store") as caught, folder.exclusive_lease():
            pass
        assert caught.value.hint
    with folder.exclusive_lease():
        pass
    with folder.lease():
        pass


def test_locks_of_different_names_are_different(folder: Folder) -> None:
    with folder.lock("a/b"), folder.lock("a") as fd:
        assert os.fstat(fd).st_size == 0
    assert {"a%2Fb", "a"} <= set(os.listdir(folder.path("locks")))


def test_remove_tree(folder: Folder) -> None:
    os.makedirs(folder.path("snapshots", "x", "fs"))
    folder.remove_tree(folder.path("snapshots", "x"))
    folder.remove_tree(folder.path("snapshots", "x"))
    assert os.listdir(folder.path("snapshots")) == []
    assert os.listdir(folder.path("trash")) == []


def test_write_durably_replaces(folder: Folder) -> None:
    path = folder.path("images", "record")
    write_durably(folder, path, b"one")
    write_durably(folder, path, b"two")
    assert Path(path).read_bytes() == b"two"
    assert os.listdir(folder.path("tmp")) == []


def test_durable_rename_does_not_replace_a_tree(folder: Folder) -> None:
    scratch = folder.scratch_directory()
    target = folder.path("layers", "sha256", "x")
    os.makedirs(f"{target}/fs")
    with pytest.raises(OSError, match="not empty"):
        durable_rename(scratch.path, target, scratch.fd)
    os.close(scratch.fd)


def test_who_waits_for_the_collector_does_not_wait_for_its_deleting(folder: Folder) -> None:
    tree = Path(folder.path("layers"), "old")
    tree.mkdir(parents=True)
    (tree / "file").write_text("x")
    with folder.exclusive_lease():
        folder.remove_tree(str(tree))
        assert not tree.exists()
        folder.sweep()
        assert len(os.listdir(folder.path("trash"))) == 1
    assert os.listdir(folder.path("trash")) == []
