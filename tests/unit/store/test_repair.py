"""Damage is taken out, and nothing that is sound: afterwards the store has no problems."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from store.archive import export_docker
from store.buildrecords import DOWNLOADS, BuildRecord
from store.cachemounts import CacheMountKey
from store.check import check
from store.digest import digest_of, hex_of
from store.images import Image
from store.manifests import manifest_of
from store.reference import Reference
from store.repair import NOTHING, drop
from store.root import Store

AddImage = Callable[..., Image]


def mend(store: Store) -> dict[str, str]:
    """Drop all damage; return what was done to each thing."""
    problems = check(store, deep=True)
    with store.exclusive_lease():
        return {problem.what: drop(store, *problem.subject) for problem in problems}


@pytest.fixture
def image(store: Store, add_image: AddImage) -> Image:
    """Return an image with blobs and a manifest: it was saved."""
    image = add_image(store, {"a": b"1"}, {"b": b"2"}, names=("x", "y:2"))
    manifest_of(store, image)
    return store.images.get(image.id)


def blob(store: Store, digest: str) -> Path:
    return Path(store.root, "blobs/sha256", digest.partition(":")[2])


def test_nothing_is_dropped_of_what_is_sound(store: Store, image: Image) -> None:
    assert mend(store) == {}
    assert store.images.find("x").id == image.id


def test_a_damaged_layer_goes_and_its_image_says_so(store: Store, image: Image) -> None:
    diff_id = image.config.diff_ids[1]
    Path(store.layers.path(diff_id), "fs/b").write_bytes(b"3")
    assert mend(store) == {f"layer {diff_id}": "dropped"}
    assert not store.layers.has(diff_id)
    # What is missing is named and cannot be dropped: the image is whole again with its layer.
    assert mend(store) == {f"image {image.id}": NOTHING}
    assert store.layers.has(image.config.diff_ids[0])


def test_a_damaged_blob_goes_and_the_layer_stays_without(store: Store, image: Image) -> None:
    diff_id = image.config.diff_ids[0]
    packed = store.layers.info(diff_id).blob
    assert packed is not None
    blob(store, packed.digest).write_bytes(b"broken")
    done = mend(store)
    assert done[f"blob {packed.digest}"] == "dropped"
    assert store.layers.info(diff_id).blob is None
    # The manifest named it: it is made anew when the image is saved again.
    mend(store)
    assert check(store, deep=True) == []
    assert store.images.get(image.id).manifest is None
    out = io.BytesIO()
    export_docker(store, [store.images.get(image.id)], out)
    assert check(store, deep=True) == []


def test_a_damaged_manifest_goes_and_the_names_stay(store: Store, image: Image) -> None:
    assert image.manifest is not None
    blob(store, image.manifest.digest).write_bytes(b"{}")
    assert mend(store) == {
        f"image {image.id}": "its manifest was dropped",
        f"blob {image.manifest.digest}": "dropped",
    }
    assert check(store, deep=True) == []
    assert {r.familiar() for r in store.images.get(image.id).references} == {"x:latest", "y:2"}


def test_a_damaged_config_takes_the_image_and_its_names(store: Store, image: Image) -> None:
    blob(store, image.id).write_bytes(b"{}")
    done = mend(store)
    assert done[f"image {image.id}"] == "dropped, with its names x:latest, y:2"
    assert store.images.ids() == []
    assert check(store, deep=True) == []


def test_a_damaged_image_record_goes(store: Store, image: Image) -> None:
    Path(store.root, "images/ids", f"{hex_of(image.id)}.json").write_text("{")
    mend(store)
    mend(store)  # the names that led there
    assert check(store, deep=True) == []
    assert store.images.ids() == []


def test_a_damaged_reference_goes_and_the_image_stays(store: Store, image: Image) -> None:
    record = store.images.reference(Reference.parse("x"))
    assert record is not None
    path = next(path for path in store.images.reference_paths() if "latest" in path)
    Path(path).write_text("{")
    assert mend(store) == {f"reference record {path}": "dropped"}
    assert [r.familiar() for r in store.images.get(image.id).references] == ["y:2"]


def test_a_damaged_database_goes(store: Store, image: Image) -> None:
    store.records.insert(BuildRecord(digest_of(b"key"), ()))
    store.close_records()
    path = Path(store.root, "records.db")
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    assert set(mend(store).values()) == {"dropped"}
    assert store.records.list() == []
    assert check(store, deep=True) == []


def test_a_lost_download_is_forgotten(store: Store) -> None:
    digest = store.content.put(b"file")
    kept = store.content.put(b"other")
    for address, value in (("a", digest), ("b", kept)):
        store.records.remember(DOWNLOADS, address, json.dumps({"digest": value}))
    blob(store, digest).write_bytes(b"elif")
    assert mend(store) == {f"blob {digest}": "dropped"}
    assert store.records.downloads() == {kept}


def test_a_damaged_cache_mount_goes(store: Store) -> None:
    names = {}
    for id_ in ("record", "folder", "sound"):
        key = CacheMountKey(id_)
        store.cache_mounts.replace(key, make=lambda path: Path(path).mkdir())
        names[id_] = key.name
    root = Path(store.root, "cachemounts")
    (root / names["record"] / "record.json").write_text("[]")
    (root / names["folder"] / "0.0" / "fs").rmdir()
    assert [problem.cause for problem in check(store)] == [
        "its directory 0.0 is gone" if name == names["folder"] else "its record is damaged"
        for name in sorted([names["record"], names["folder"]])
    ]
    assert set(mend(store)) == {f"cache mount {names[id_]}" for id_ in ("record", "folder")}
    assert check(store) == []
    assert [info.key.id for info in store.cache_mounts.mounts()] == ["sound"]


def test_what_nobody_can_mend_is_left(store: Store) -> None:
    assert drop(store, "", "") == NOTHING
