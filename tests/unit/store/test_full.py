"""A store on a disk without room: what frees space works, and nothing takes it for damage."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.buildrecords import BuildRecord
from store.check import check
from store.digest import digest_of
from store.errors import DiskFull, NotFound, StoreError, is_full
from store.gc import collect
from store.images import Image
from store.root import Store

pytestmark = pytest.mark.kernel

AddImage = Callable[..., Image]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a small file system of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


def test_what_is_thrown_away_goes_before_the_records_are_opened(
    disk: Path, add_image: AddImage
) -> None:
    with Store.open(disk / "s") as store:
        image = add_image(store, {"a": b"1"}, names=("x",))
        store.records.insert(BuildRecord(digest_of(b"key"), image.config.diff_ids))
    (disk / "s/trash/grave").mkdir()
    fill(disk / "s/trash/grave/big")
    size = (disk / "s/trash/grave/big").stat().st_size
    assert is_full(str(disk / "s/records.db"))
    with Store.open(disk / "s") as store:
        with pytest.raises(DiskFull, match=f"no space left on device on {disk}") as caught:
            store.records.list()
        assert "system prune" in (caught.value.hint or "")
        with pytest.raises(DiskFull):
            check(store)
        assert collect(store) == size
        assert len(store.records.list()) == 1
        assert check(store, deep=True) == []


def test_scratch_goes_before_the_records_are_opened(disk: Path) -> None:
    with Store.open(disk / "s") as store:
        store.records.remember("n", "k", "v")
    fill(disk / "s/tmp/left")
    with Store.open(disk / "s") as store:
        assert collect(store) > 1_000_000
        assert store.records.recall("n", "k") == "v"


@pytest.mark.parametrize("where", ["other", "s/trash/grave"])
def test_an_image_goes_whole_from_a_full_disk(disk: Path, add_image: AddImage, where: str) -> None:
    with Store.open(disk / "s") as store:
        kept = add_image(store, {"a": b"1"}, names=("kept",))
        add_image(store, {"a": b"1"}, {"b": b"2"}, names=("x", "y"))
        (recorded,) = kept.config.diff_ids
        store.records.insert(BuildRecord(digest_of(b"key"), (recorded,)))
        store.images.remove("kept")
    fill(disk / where)
    with Store.open(disk / "s") as store:
        assert store.images.remove("y") == ["Untagged: y:latest"]
        assert len(store.images.remove("x")) == 3
        assert set(store.layers.iter()) == {recorded}


def test_a_name_stays_when_the_rest_cannot_go(disk: Path, add_image: AddImage) -> None:
    with Store.open(disk / "s") as store:
        image = add_image(store, {"a": b"1"}, names=("x",))
        os.mkdir(store.folder.path("records.db"))
        with pytest.raises(StoreError, match="unable to open"):
            store.images.remove("x")
        assert store.images.find("x") == image
        os.rmdir(store.folder.path("records.db"))
        store.images.remove("x")
        with pytest.raises(NotFound):
            store.images.find("x")
