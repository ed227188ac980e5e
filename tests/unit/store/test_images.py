import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from store import mediatypes
from store.digest import Digest, digest_of
from store.errors import Ambiguous, Corrupt, InUse, InvalidReference, NewerFormat, NotFound
from store.oci import Descriptor, ImageConfig, Index, Manifest, Platform
from store.reference import Reference
from store.root import Store

CONFIG = ImageConfig("amd64", "linux", author="a")


def ref(text: str) -> Reference:
    return Reference.parse(text)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def names(store: Store, image_id: Digest) -> list[str]:
    return [reference.familiar() for reference in store.images.get(image_id).references]


def test_add_and_find(store: Store) -> None:
    image = store.images.add(CONFIG, references=[ref("x:1"), ref("localhost:5000/a/b:2")])
    assert image.id == digest_of(CONFIG.to_json())
    assert image.config == CONFIG
    assert image.manifest is None
    assert names(store, image.id) == ["x:1", "localhost:5000/a/b:2"]
    for name in ("x:1", "docker.io/library/x:1", image.id, image.id[7:], image.id[7:19]):
        assert store.images.find(name) == image
    assert store.images.list() == [image]
    with pytest.raises(NotFound, match="no such image: x:2"):
        store.images.find("x:2")
    with pytest.raises(NotFound, match="no such image"):
        store.images.find("nothing at all")
    with pytest.raises(NotFound):
        store.images.get(digest_of(b""))


def test_config_bytes_are_kept_as_they_came(store: Store) -> None:
    data = b' { "rootfs": {}, "os": "linux", "architecture": "amd64", "zzz": 1 } '
    image = store.images.add(data)
    assert image.id == digest_of(data)
    assert store.content.get(image.id) == data
    with pytest.raises(Corrupt):
        store.images.add(b"{}")
    assert store.images.ids() == [image.id]


def test_records_are_files_that_people_can_read(store: Store) -> None:
    image = store.images.add(CONFIG, references=[ref("ghcr.io/a/b:v1")])
    path = f"{store.root}/images/refs/ghcr.io/a/b/@tags/v1.json"
    record = json.loads(Path(path).read_text())
    assert record["reference"] == "ghcr.io/a/b:v1"
    assert record["image"] == image.id
    assert record["target"]["digest"] == image.id
    record = json.loads(Path(f"{store.root}/images/ids/{image.id[7:]}.json").read_text())
    assert record["references"] == ["ghcr.io/a/b:v1"]


def test_longest_names_fit(store: Store) -> None:
    name = "r" * 60 + ".io/" + "a" * 191 + ":" + "t" * 128
    image = store.images.add(CONFIG, references=[ref(name)])
    assert store.images.find(name) == image
    assert store.images.remove(name) == [f"Untagged: {name}", f"Deleted: {image.id}"]
    assert os.listdir(f"{store.root}/images/refs") == []


def test_a_repository_may_lie_inside_another(store: Store) -> None:
    outer = store.images.add(CONFIG, references=[ref("a/b:1")])
    inner = store.images.add(replace(CONFIG, author="b"), references=[ref("a/b/c:1")])
    assert store.images.find("a/b:1") == outer
    assert store.images.find("a/b/c:1") == inner
    store.images.remove("a/b:1")
    assert store.images.find("a/b/c:1") == inner


def test_a_moved_tag_leaves_a_dangling_image(store: Store) -> None:
    old = store.images.add(CONFIG, references=[ref("x")])
    new = store.images.add(replace(CONFIG, author="b"), references=[ref("x")])
    assert store.images.find("x").id == new.id
    assert names(store, old.id) == []
    assert {image.id for image in store.images.list()} == {old.id, new.id}


def test_untag_keeps_the_image(store: Store) -> None:
    image = store.images.add(CONFIG, references=[ref("x")])
    assert store.images.untag(ref("x"))
    assert not store.images.untag(ref("x"))
    assert names(store, image.id) == []


def test_remove_by_reference(store: Store) -> None:
    image = store.images.add(CONFIG, references=[ref("x:1"), ref("x:2")])
    assert store.images.remove("x:1") == ["Untagged: x:1"]
    assert names(store, image.id) == ["x:2"]
    assert store.images.remove("x:2") == ["Untagged: x:2", f"Deleted: {image.id}"]
    assert store.images.list() == []
    with pytest.raises(NotFound):
        store.images.remove("x:2")


def test_remove_by_id(store: Store) -> None:
    image = store.images.add(CONFIG, references=[ref("x:1")])
    assert store.images.remove(image.id[7:14]) == ["Untagged: x:1", f"Deleted: {image.id}"]
    store.images.add(CONFIG, references=[ref("x:1"), ref("y:1")])
    with pytest.raises(InUse, match="2 references"):
        store.images.remove(image.id)
    assert len(names(store, image.id)) == 2
    assert store.images.remove(image.id, force=True) == [
        "Untagged: x:1",
        "Untagged: y:1",
        f"Deleted: {image.id}",
    ]


def test_digests_go_with_the_last_tag(store: Store) -> None:
    manifest = Descriptor(mediatypes.OCI_MANIFEST, digest_of(b"m"), 1)
    pinned = ref(f"x@{manifest.digest}")
    image = store.images.add(
        CONFIG, references=[ref("x:1"), ref("x:2"), pinned, ref("y:1")], manifest=manifest
    )
    assert store.images.remove("x:1") == ["Untagged: x:1"]
    assert store.images.remove("x:2") == ["Untagged: x:2", f"Untagged: {pinned.familiar()}"]
    assert store.images.remove("y:1") == ["Untagged: y:1", f"Deleted: {image.id}"]


def test_one_tag_and_its_digest_count_as_one_reference(store: Store) -> None:
    manifest = Descriptor(mediatypes.OCI_MANIFEST, digest_of(b"m"), 1)
    references = [ref("x:1"), ref(f"x@{manifest.digest}")]
    image = store.images.add(CONFIG, references=references, manifest=manifest)
    assert store.images.remove(image.id)[-1] == f"Deleted: {image.id}"


def test_digest_references(store: Store) -> None:
    manifest = Descriptor(mediatypes.OCI_MANIFEST, digest_of(b"m"), 1)
    image = store.images.add(CONFIG, references=[ref("x:1")], manifest=manifest)
    assert store.images.find(f"x@{manifest.digest}") == image  # by the tag that points there
    assert store.images.find(f"x:9@{manifest.digest}") == image
    with pytest.raises(NotFound):
        store.images.find(f"y@{manifest.digest}")
    with pytest.raises(InvalidReference):
        store.images.tag(image.id, ref(f"y@{digest_of(b'other')}"))
    store.images.tag(image.id, ref(f"y:3@{manifest.digest}"))
    assert f"y@{manifest.digest}" in names(store, image.id)


def test_short_ids(store: Store) -> None:
    images = [store.images.add(replace(CONFIG, author=str(number))) for number in range(300)]
    prefixes = [image.id[7:9] for image in images]
    double = next(prefix for prefix in prefixes if prefixes.count(prefix) > 1)
    with pytest.raises(Ambiguous):
        store.images.find(double)
    assert store.images.find(images[0].id[:27]) == images[0]
    with pytest.raises(NotFound):
        store.images.find(images[0].id[7])


def test_a_reference_counts_before_a_short_id(store: Store) -> None:
    first = store.images.add(CONFIG)
    second = store.images.add(replace(CONFIG, author="b"), references=[ref(first.id[7:19])])
    assert store.images.find(first.id[7:19]).id == second.id
    assert store.images.find(first.id) == first


def test_manifest_is_recorded_once(store: Store) -> None:
    image = store.images.add(CONFIG)
    first, second = (Descriptor(mediatypes.OCI_MANIFEST, digest_of(x), 1) for x in (b"1", b"2"))
    assert store.images.record_manifest(image.id, first) == first
    assert store.images.record_manifest(image.id, second) == first
    assert store.images.get(image.id).manifest == first
    assert store.images.add(CONFIG).manifest == first


def test_an_index_leads_to_the_platform_asked_for(store: Store) -> None:
    configs = [CONFIG, replace(CONFIG, architecture="arm64", variant="v8")]
    manifests = []
    for config in configs:
        descriptor = Descriptor(mediatypes.OCI_CONFIG, store.content.put(config.to_json()), 1)
        data = Manifest(descriptor, ()).to_json()
        digest = store.content.put(data)
        manifests.append(Descriptor(mediatypes.OCI_MANIFEST, digest, len(data)))
    data = Index(tuple(manifests)).to_json()
    index = Descriptor(mediatypes.OCI_INDEX, store.content.put(data), len(data))
    arm = store.images.add(configs[1], manifest=manifests[1])
    amd = store.images.add(configs[0], manifest=manifests[0], target=index, references=[ref("x")])
    assert store.images.find("x") == amd
    assert store.images.find("x", platform=Platform("linux", "arm64")).id == arm.id
    assert store.images.find("x", platform=Platform("linux", "arm64", "v8")).id == arm.id
    with pytest.raises(NotFound, match="linux/arm/v7"):
        store.images.find("x", platform=Platform("linux", "arm", "v7"))


def test_unchanged_tag_writes_nothing(store: Store) -> None:
    store.images.add(CONFIG, references=[ref("x")])

    def state() -> list[tuple[str, int]]:
        paths = sorted(Path(f"{store.root}/images").rglob("*"))
        return [(str(path), path.stat().st_ctime_ns) for path in paths]

    before = state()
    store.images.add(CONFIG, references=[ref("x")])
    assert state() == before


def test_newer_and_broken_records(store: Store) -> None:
    image = store.images.add(CONFIG, references=[ref("x:1"), ref("x:2")])
    path = Path(f"{store.root}/images/refs/docker.io/library/x/@tags/1.json")
    path.write_text('{"version": 99}')
    with pytest.raises(NewerFormat, match="version 99"):
        store.images.find("x:1")
    path.write_text("{")
    with pytest.raises(Corrupt, match=r"1\.json"):
        store.images.find("x:1")
    assert store.images.find("x:2").id == image.id


def test_list_leaves_out_what_cannot_be_read(store: Store) -> None:
    broken = store.images.add(CONFIG)
    whole = store.images.add(replace(CONFIG, author="b"))
    Path(store.content.path(broken.id)).write_bytes(b"{}")
    told: list[Exception] = []
    store.on_damage = told.append
    assert store.images.list() == store.images.list() == [whole]
    assert [broken.id in str(error) for error in told] == [True]
    assert store.images.remove(broken.id) == [f"Deleted: {broken.id}"]


TAG_MANY = """
import sys
from dataclasses import replace
from store.oci import ImageConfig
from store.reference import Reference
from store.root import Store

start = int(sys.argv[2])
with Store.open(sys.argv[1]) as store:
    for number in range(start, start + 10):
        config = ImageConfig("amd64", "linux", author=str(number % 3))
        names = [Reference.parse(f"x:{number}"), Reference.parse("x:shared")]
        store.images.add(config, references=names)
        store.images.list()
"""


def test_processes_tag_at_once(store: Store) -> None:
    command = [sys.executable, "-c", TAG_MANY, store.root]
    workers = [subprocess.Popen([*command, str(start)]) for start in range(0, 40, 10)]
    assert [worker.wait() for worker in workers] == [0] * 4
    images = store.images.list()
    assert len(images) == 3
    tags = [reference.tag for image in images for reference in image.references]
    assert sorted(tags, key=str) == sorted([*map(str, range(40)), "shared"])
