"""Container records are JSON files that come back as they went."""

import json
from collections.abc import Iterator
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


@pytest.fixture
def store(root: str) -> Iterator[Store]:
    with Store.open(root) as store:
        yield store


def test_what_was_saved_is_loaded_newest_first(store: Store) -> None:
    assert records.load_all(store) == [SECOND, FIRST]


def test_a_record_is_readable_json_that_names_its_layers(root: str) -> None:
    read = json.loads(Path(root, "containers", f"{FIRST.id}.json").read_text())
    assert read["version"] == 1
    assert read["layers"] == list(FIRST.layers)


@pytest.mark.parametrize("name", [SECOND.id, SECOND.name])
def test_find_by_name_and_id(store: Store, name: str) -> None:
    assert records.find(store, name) == SECOND


def test_find_by_the_start_of_an_id(root: str, store: Store) -> None:
    records.delete(root, FIRST.id)
    assert records.find(store, "aaa") == SECOND


def test_what_is_not_there(store: Store) -> None:
    with pytest.raises(ContainerError, match="no such container: zzz"):
        records.find(store, "zzz")
    with pytest.raises(ContainerError, match="no such container: "):
        records.find(store, "")
    with pytest.raises(ContainerError, match="fits 2 containers"):
        records.find(store, "aa")


def test_delete_twice(root: str, store: Store) -> None:
    records.delete(root, FIRST.id)
    records.delete(root, FIRST.id)
    assert records.load_all(store) == [SECOND]


def test_containers_of_an_image(store: Store) -> None:
    assert records.containers_of(store, FIRST.image_id) == [SECOND, FIRST]
    assert records.containers_of(store, "sha256:" + "9" * 64) == []


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


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", " is no JSON"),
        ('{"version": 99}', " is not of version 1"),
        ('{"version": 1}', " lacks "),
    ],
)
def test_a_damaged_record_is_named_and_stands_in_nobodys_way(
    root: str, store: Store, text: str, cause: str
) -> None:
    path = Path(root, "containers", f"{FIRST.id}.json")
    path.write_text(text)
    told: list[Exception] = []
    store.on_damage = told.append
    assert records.load_all(store) == records.load_all(store) == [SECOND]
    (error,) = told
    assert str(error).startswith(f"container record {path}{cause}")


def test_names_are_for_people_and_not_taken() -> None:
    taken = {records.new_name(set()) for _ in range(50)}
    name = records.new_name(taken)
    assert name not in taken
    assert name.count("_") == 1
