import json
from collections.abc import Callable
from pathlib import Path

import pytest

from store.buildrecords import DOWNLOADS, BuildRecord
from store.cacheusage import forget_memos, release
from store.check import check
from store.digest import DiffID, digest_of
from store.errors import Corrupt, InUse, StoreError
from store.gc import collect, discard
from store.images import Image
from store.manifests import manifest_of
from store.reference import Reference
from store.root import Store

AddImage = Callable[..., Image]


def layers(store: Store) -> set[DiffID]:
    return set(store.layers.iter())


def test_what_an_image_needs_stays(store: Store, add_image: AddImage) -> None:
    image = add_image(store, {"a": b"1"}, {"b": b"2"}, names=("x",))
    dangling = add_image(store, {"c": b"3"})
    manifest_of(store, image)
    blobs = set(store.content.iter())
    assert collect(store) == 0
    assert set(store.content.iter()) == blobs
    assert layers(store) == {*image.config.diff_ids, *dangling.config.diff_ids}
    assert check(store, deep=True) == []


def test_the_rest_goes(store: Store, tar_of: Callable[..., bytes]) -> None:
    store.layers.unpack([tar_of({"a": b"12345"})])
    store.content.put(b"1234567")
    assert collect(store) == 5 + 7
    assert layers(store) == set()
    assert list(store.content.iter()) == []
    for folder in ("l", "trash", "tmp", "layers/sha256"):
        assert list(Path(store.root, folder).iterdir()) == []


def test_remove_takes_the_layers_that_nobody_shares(store: Store, add_image: AddImage) -> None:
    one = add_image(store, {"a": b"1"}, {"b": b"2"}, names=("one",))
    two = add_image(store, {"a": b"1"}, {"c": b"3"}, names=("two",))
    manifest_of(store, one)
    assert store.images.remove("one") == [
        "Untagged: one:latest",
        f"Deleted: {one.id}",
        f"Deleted: {one.config.diff_ids[1]}",
    ]
    assert layers(store) == set(two.config.diff_ids)
    assert check(store, deep=True) == []
    # The shared layer's blob stays with the layer.
    blob = store.layers.info(two.config.diff_ids[0]).blob
    assert blob is not None
    assert set(store.content.iter()) == {two.id, blob.digest}


def test_remove_during_a_build_leaves_the_layers_to_the_next_collection(
    store: Store, add_image: AddImage
) -> None:
    image = add_image(store, {"a": b"1"}, names=("one",))
    with store.lease():
        assert store.images.remove("one") == ["Untagged: one:latest", f"Deleted: {image.id}"]
        assert layers(store) == set(image.config.diff_ids)
        with pytest.raises(InUse):
            collect(store)
    collect(store)
    assert layers(store) == set()


def test_build_records_keep_their_layers(store: Store, tar_of: Callable[..., bytes]) -> None:
    kept = store.layers.unpack([tar_of({"a": b"1"})])
    store.layers.unpack([tar_of({"b": b"1"})])
    key = digest_of(b"key")
    store.records.insert(BuildRecord(key, (kept,)))
    collect(store)
    assert layers(store) == {kept}
    store.records.forget([key])
    collect(store)
    assert layers(store) == set()


def test_a_released_record_keeps_no_layer(store: Store, tar_of: Callable[..., bytes]) -> None:
    layer = store.layers.unpack([tar_of({"a": b"1"})])
    key = digest_of(b"key")
    store.records.insert(BuildRecord(key, (layer,)))
    release(store.records, [key])
    collect(store)
    assert layers(store) == set()
    assert [record.key for record in store.records.list()] == [key]


def test_downloads_stay_until_they_are_forgotten(store: Store) -> None:
    blob = store.content.put(b"1234567")
    store.records.remember(DOWNLOADS, "https://example.org/x", json.dumps({"digest": blob}))
    assert collect(store) == 0
    assert store.content.has(blob)
    forget_memos(store.records, DOWNLOADS, ["https://example.org/x"])
    assert collect(store) == 7


def test_containers_keep_their_layers(store: Store, tar_of: Callable[..., bytes]) -> None:
    recorded = store.layers.unpack([tar_of({"a": b"1"})])
    snapped = store.layers.unpack([tar_of({"b": b"1"})])
    record = Path(store.root, "containers", "c1.json")
    record.write_text(json.dumps({"version": 1, "layers": [recorded], "other": 1}))
    with store.snapshots.prepare([snapped]) as active:
        kept = active.keep()
    collect(store)
    assert layers(store) == {recorded, snapped}
    assert check(store, deep=True) == []
    record.unlink()
    store.snapshots.remove(kept)
    collect(store)
    assert layers(store) == set()


def test_a_broken_record_stops_the_collector(store: Store, add_image: AddImage) -> None:
    add_image(store, {"a": b"1"}, names=("x",))
    lost = store.layers.unpack([b"\0" * 1024])
    record = Path(store.root, "images/refs/docker.io/library/x/@tags/latest.json")
    whole = record.read_text()
    record.write_text("{")
    with pytest.raises(Corrupt, match=r"latest\.json"):
        collect(store)
    assert discard(store, layers=[lost]) == []
    assert lost in layers(store)
    record.write_text(whole)
    collect(store)
    assert lost not in layers(store)


def test_discard_spares_what_is_used(store: Store, add_image: AddImage) -> None:
    image = add_image(store, {"a": b"1"})
    lost = store.layers.unpack([b"\0" * 1024])
    blob = store.content.put(b"lost")
    gone = discard(store, layers=[*image.config.diff_ids, lost], blobs=[image.id, blob])
    assert gone == [lost]
    assert layers(store) == set(image.config.diff_ids)
    assert list(store.content.iter()) == [image.id]


def test_abandoned_snapshots_and_scratch_go(store: Store) -> None:
    with store.snapshots.prepare([]) as active:
        active.keep()
    Path(store.root, "snapshots", active.id, "kept").unlink()  # as a kill would leave it
    Path(store.root, "tmp", "left").write_text("x")
    Path(store.root, "trash", "left").mkdir()
    Path(store.root, "l", "z").symlink_to("../layers/sha256/none/fs")
    assert check(store, deep=True) == []
    collect(store)
    for folder in ("snapshots", "tmp", "trash", "l"):
        assert list(Path(store.root, folder).iterdir()) == []


def test_a_retagged_image_keeps_its_layers(store: Store, add_image: AddImage) -> None:
    image = add_image(store, {"a": b"1"}, names=("x",))
    store.images.tag(image.id, Reference.parse("y"))
    store.images.remove("x")
    collect(store)
    assert layers(store) == set(image.config.diff_ids)


def test_an_open_snapshot_given_up_to_collection_stays_and_its_layers_by_their_record(
    store: Store, tar_of: Callable[..., bytes]
) -> None:
    layer = store.layers.unpack([tar_of({"f": b"1"})])
    record = Path(store.root, "containers", "c1.json")
    with store.snapshots.prepare([layer]) as active:
        with pytest.raises(InUse):
            collect(store)
        record.write_text(json.dumps({"version": 1, "layers": [layer]}))
        active.unlease()
        collect(store)
        assert layers(store) == {layer}
        assert Path(active.upper).is_dir()
        with pytest.raises(StoreError, match="garbage collection"):
            active.commit()
    record.unlink()
    collect(store)
    assert layers(store) == set()
