from collections.abc import Callable
from pathlib import Path

import pytest

from store.buildrecords import BuildRecord
from store.check import Problem, check
from store.digest import digest_of
from store.images import Image
from store.manifests import manifest_of
from store.root import Store


@pytest.fixture
def image(store: Store, add_image: Callable[..., Image]) -> Image:
    image = add_image(store, {"d/": b"", "d/a": b"1" * 3000}, {"b": b"2"}, names=("x:1", "y:1"))
    manifest_of(store, image)
    store.records.insert(BuildRecord(digest_of(b"key"), image.config.diff_ids))
    return store.images.get(image.id)


def found(store: Store, *, deep: bool = False) -> list[str]:
    return [str(problem) for problem in check(store, deep)]


def test_a_sound_store_has_no_problems(store: Store, image: Image) -> None:
    assert found(store) == []
    assert found(store, deep=True) == []


def test_an_empty_store_has_no_problems(store: Store) -> None:
    assert found(store, deep=True) == []


def test_a_missing_layer(store: Store, image: Image) -> None:
    lost = image.config.diff_ids[1]
    store.layers.remove(lost)
    (problem,) = found(store)
    assert problem == (
        f"image {image.id}: layer {lost} is not in the store (hint: pull or build it again)"
    )


def test_a_missing_config(store: Store, image: Image) -> None:
    store.content.remove(image.id)
    (problem,) = found(store)
    assert image.id in problem


def test_a_missing_layer_blob(store: Store, image: Image) -> None:
    blob = store.layers.info(image.config.diff_ids[0]).blob
    assert blob is not None
    store.content.remove(blob.digest)
    problems = found(store)
    assert len(problems) == 2  # the image's manifest and the layer both name it
    assert all(blob.digest in problem for problem in problems)


def test_a_missing_manifest(store: Store, image: Image) -> None:
    assert image.manifest is not None
    store.content.remove(image.manifest.digest)
    assert any("manifest" in problem for problem in found(store))


@pytest.mark.parametrize("data", [b"1" * 2999, b"1" * 2999 + b"2", b"", None])
def test_a_damaged_file_in_a_layer(store: Store, image: Image, data: bytes | None) -> None:
    diff_id = image.config.diff_ids[0]
    path = Path(store.layers.path(diff_id), "fs/d/a")
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    assert found(store) == []
    (problem,) = found(store, deep=True)
    assert problem.startswith(f"layer {diff_id}: ")


def test_a_damaged_blob(store: Store, image: Image) -> None:
    blob = store.layers.info(image.config.diff_ids[0]).blob
    assert blob is not None
    path = Path(store.content.path(blob.digest))
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    assert found(store) == []
    (problem,) = found(store, deep=True)
    assert problem.startswith(f"blob {blob.digest}: its bytes have digest")


def test_a_damaged_layer_record(store: Store, image: Image) -> None:
    Path(store.layers.path(image.config.diff_ids[0]), "layer.json").write_text("{")
    (problem,) = found(store)
    assert image.config.diff_ids[0] in problem


def test_a_broken_reference(store: Store, image: Image) -> None:
    path = Path(store.root, "images/refs/docker.io/library/x/@tags/1.json")
    path.write_text("{")
    (problem,) = found(store)
    assert str(path) in problem
    assert "remove the file" in problem


def test_a_reference_to_nothing(store: Store, image: Image) -> None:
    Path(store.root, "images/ids", f"{image.id[7:]}.json").unlink()
    problems = found(store)
    assert [problem.split(":")[0] for problem in problems] == ["reference x", "reference y"]


def test_a_lost_alias(store: Store, image: Image) -> None:
    (first, *_) = sorted(Path(store.root, "l").iterdir())
    first.unlink()
    (problem,) = found(store)
    assert f"l/{first.name} is gone" in problem


def test_damaged_build_records(store: Store, image: Image) -> None:
    store.close()
    path = Path(store.root, "records.db")
    for side in ("-wal", "-shm"):
        Path(f"{path}{side}").unlink(missing_ok=True)
    path.write_bytes(b"not a database" * 1000)
    (problem,) = found(store)
    assert problem.startswith("build records: ")
    assert "only the build cache is lost" in problem


def test_a_problem_is_one_line() -> None:
    assert str(Problem("a", "b", "c")) == "a: b (hint: c)"
    assert str(Problem("a", "b")) == "a: b"
