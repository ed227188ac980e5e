"""Container records are JSON files that come back as they went."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.engine import records
from pybuild.engine.records import ContainerRecord
from pybuild.errors import ContainerError
from store.locks import held
from store.root import Store

FIRST = ContainerRecord(
    id="a" * 64,
    name="able_abel",
    image_id="sha256:" + "1" * 64,
    image_name="image:1",
    args=("sh", "-c", "ünïcode \udcff"),
    layers=("sha256:" + "2" * 64,),
    created="2026-01-01T00:00:00Z",
    env=("A=1",),
    labels=(("k", "v"),),
    folders=(("/a", "/b", True),),
)
SECOND = replace(FIRST, id="a" * 63 + "b", name="bold_bell", created="2026-01-02T00:00:00Z")


@pytest.fixture
def root(tmp_path: Path) -> str:
    root = str(tmp_path / "store")
    with Store.open(root):
        records.save(root, FIRST)
        records.save(root, SECOND)
    return root


def test_what_was_saved_is_loaded_newest_first(root: str) -> None:
    assert records.load_all(root) == [SECOND, FIRST]


def test_a_record_is_readable_json_that_names_its_layers(root: str) -> None:
    read = json.loads(Path(root, "containers", f"{FIRST.id}.json").read_text())
    assert read["version"] == 1
    assert read["layers"] == list(FIRST.layers)


@pytest.mark.parametrize("name", [SECOND.id, SECOND.name])
def test_find_by_name_and_id(root: str, name: str) -> None:
    assert records.find(root, name) == SECOND


def test_find_by_the_start_of_an_id(root: str) -> None:
    records.delete(root, FIRST.id)
    assert records.find(root, "aaa") == SECOND


def test_what_is_not_there(root: str) -> None:
    with pytest.raises(ContainerError, match="no such container: zzz"):
        records.find(root, "zzz")
    with pytest.raises(ContainerError, match="no such container: "):
        records.find(root, "")
    with pytest.raises(ContainerError, match="fits 2 containers"):
        records.find(root, "aa")


def test_delete_twice(root: str) -> None:
    records.delete(root, FIRST.id)
    records.delete(root, FIRST.id)
    assert records.load_all(root) == [SECOND]


def test_containers_of_an_image(root: str) -> None:
    assert records.containers_of(root, FIRST.image_id) == [SECOND, FIRST]
    assert records.containers_of(root, "sha256:" + "9" * 64) == []


def test_a_container_lives_while_the_flock_of_its_snapshot_is_held(root: str) -> None:
    record = replace(FIRST, snapshot="s1")
    assert not records.is_alive(root, FIRST)
    assert not records.is_alive(root, record)
    folder = Path(root, "snapshots", "s1")
    folder.mkdir()
    (folder / "lock").touch()
    assert not records.is_alive(root, record)
    with held(str(folder / "lock")):
        assert records.is_alive(root, record)
    assert not records.is_alive(root, record)


def test_a_broken_record_is_named(root: str) -> None:
    path = Path(root, "containers", f"{FIRST.id}.json")
    path.write_text("{")
    with pytest.raises(ContainerError, match=str(path)):
        records.load_all(root)
    path.write_text('{"version": 99}')
    with pytest.raises(ContainerError, match="not a record of version 1"):
        records.load_all(root)


def test_names_are_for_people_and_not_taken() -> None:
    taken = {records.new_name(set()) for _ in range(50)}
    name = records.new_name(taken)
    assert name not in taken
    assert name.count("_") == 1
