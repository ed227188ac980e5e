import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard

from store.archive import Selection, export_docker, export_oci, export_oci_folder, load
from store.check import check
from store.digest import Digest, digest_of
from store.errors import BadArchive, Corrupt, DiskFull, NotFound, StoreError
from store.gc import collect
from store.images import Image
from store.manifests import Compression
from store.oci import ImageConfig, Index, Manifest, Platform
from store.reference import Reference
from store.root import Store

Files = dict[str, bytes]
BASE = {"etc/": b"", "etc/x": b"x" * 100_000, "a": b"1"}
TOP = {"b": b"2" * 5000}


def ref(name: str) -> Reference:
    return Reference.parse(name)


def unpacked(data: bytes) -> Files:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [member for member in tar if member.isfile()]
        return {m.name: tar.extractfile(m).read() for m in members}  # type: ignore[union-attr]


def packed(files: Mapping[str, bytes | str]) -> bytes:
    """Return a tar; a text is the target of a symlink."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(body, str):
                info.type, info.linkname = tarfile.SYMTYPE, body
                tar.addfile(info)
            else:
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def saved(store: Store, *images: Image) -> bytes:
    buffer = io.BytesIO()
    export_docker(store, images, buffer)
    return buffer.getvalue()


def oci(store: Store, image: Image, *names: str, compression: Compression | str = "gzip") -> bytes:
    buffer = io.BytesIO()
    references = [ref(name) for name in names]
    export_oci(store, image, buffer, references=references, compression=compression)
    return buffer.getvalue()


def layers_of(files: Mapping[str, bytes]) -> list[str]:
    """Return where an archive's first image has its layers."""
    index = json.loads(files["index.json"])
    manifest = json.loads(files[f"blobs/sha256/{index['manifests'][0]['digest'][7:]}"])
    return [f"blobs/sha256/{layer['digest'][7:]}" for layer in manifest["layers"]]


def state(store: Store) -> list[str]:
    """Return every file of the store that lasts."""
    return sorted(
        str(path.relative_to(store.root))
        for path in Path(store.root).rglob("*")
        if "locks" not in path.parts
    )


@pytest.fixture
def image(store: Store, add_image: Callable[..., Image]) -> Image:
    return add_image(store, BASE, TOP, names=("x:1", "ghcr.io/a/b:2"))


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "other")


def load_bytes(store: Store, data: bytes) -> list[tuple[Image, Reference | None]]:
    return load(store, io.BytesIO(data))


# -- out


def test_docker_archive_has_every_form(store: Store, image: Image) -> None:
    files = unpacked(saved(store, image))
    assert set(files) >= {"manifest.json", "index.json", "oci-layout", "repositories"}
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["x:1", "ghcr.io/a/b:2"] or entry["RepoTags"] == [
        "ghcr.io/a/b:2",
        "x:1",
    ]
    assert digest_of(files[entry["Config"]]) == image.id
    assert [digest_of(files[name]) for name in entry["Layers"]] == list(image.config.diff_ids)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    repositories = json.loads(files["repositories"])
    assert repositories == {
        "ghcr.io/a/b": {"2": entry["Layers"][-1][13:]},
        "x": {"1": entry["Layers"][-1][13:]},
    }
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert digest_of(data) == f"sha256:{name[13:]}"


def test_oci_layout(store: Store, image: Image) -> None:
    files = unpacked(oci(store, image, "x:1"))
    (descriptor,) = Index.from_json(files["index.json"]).manifests
    assert descriptor.annotations == {
        "io.containerd.image.name": "docker.io/library/x:1",
        "org.opencontainers.image.ref.name": "1",
    }
    assert descriptor.platform == Platform("linux", "amd64")
    manifest = Manifest.from_json(files[f"blobs/sha256/{descriptor.digest[7:]}"])
    assert manifest.config.digest == image.id
    assert len(files) == 2 + 1 + 1 + 2
    for blob in (manifest.config, *manifest.layers, descriptor):
        assert len(files[f"blobs/sha256/{blob.digest[7:]}"]) == blob.size_bytes


def test_without_a_name(store: Store, add_image: Callable[..., Image]) -> None:
    image = add_image(store, BASE)
    files = unpacked(saved(store, image))
    assert json.loads(files["manifest.json"])[0]["RepoTags"] is None
    assert "repositories" not in files
    (descriptor,) = Index.from_json(files["index.json"]).manifests
    assert descriptor.annotations is None


def test_an_image_without_layers(
    store: Store, add_image: Callable[..., Image], other: Store
) -> None:
    image = add_image(store, names=("empty",))
    assert b'"layers":[]' in b"".join(unpacked(saved(store, image)).values())
    assert load_bytes(other, saved(store, image))[0][0].id == image.id


def test_saving_twice_gives_the_same_bytes(store: Store, image: Image) -> None:
    assert saved(store, image) == saved(store, image)
    first = oci(store, image, "x:1")
    assert store.images.get(image.id).manifest is not None
    again = store.images.get(image.id)
    assert oci(store, again, "x:1") == first
    assert saved(store, again) == saved(store, again)


def test_what_was_made_here_is_saved_as_it_is(store: Store, image: Image) -> None:
    """As docker does: nothing is compressed, and nothing is kept for it."""
    before = [name for name in state(store) if name.startswith("blobs/")]
    files = unpacked(saved(store, image))
    assert layers_of(files) == [f"blobs/sha256/{d[7:]}" for d in image.config.diff_ids]
    assert store.images.get(image.id).manifest is None
    assert [name for name in state(store) if name.startswith("blobs/")] == before
    # A layer with a blob, because it was pulled or pushed, goes as that.
    oci(store, image)
    later = unpacked(saved(store, store.images.get(image.id)))
    assert all(later[name][:2] == b"\x1f\x8b" for name in layers_of(later))


def test_two_stores_give_the_same_bytes(
    store: Store, image: Image, other: Store, add_image: Callable[..., Image]
) -> None:
    twin = add_image(other, BASE, TOP, names=("x:1", "ghcr.io/a/b:2"))
    assert saved(other, twin) == saved(store, image)


def test_only_the_references_asked_for(store: Store, image: Image) -> None:
    buffer = io.BytesIO()
    export_docker(store, [(image, [ref("x:1")]), (image, [ref("z:9")])], buffer)
    (entry,) = json.loads(unpacked(buffer.getvalue())["manifest.json"])
    assert entry["RepoTags"] == ["x:1", "z:9"]


@pytest.mark.parametrize(("name", "magic"), [("gzip", b"\x1f\x8b"), ("zstd", b"\x28\xb5")])
def test_compression(store: Store, image: Image, other: Store, name: str, magic: bytes) -> None:
    data = oci(store, image, "x:1", compression=name)
    files = unpacked(data)
    (descriptor,) = Index.from_json(files["index.json"]).manifests
    manifest = Manifest.from_json(files[f"blobs/sha256/{descriptor.digest[7:]}"])
    for layer in manifest.layers:
        assert layer.media_type.endswith(f"tar+{name}")
        assert files[f"blobs/sha256/{layer.digest[7:]}"].startswith(magic)
    loaded, _ = load_bytes(other, data)[0]
    assert loaded.manifest == store.images.get(image.id).manifest
    assert check(other, deep=True) == []


def test_uncompressed_layers(store: Store, image: Image, other: Store) -> None:
    data = oci(store, image, "x:1", compression="none")
    loaded, _ = load_bytes(other, data)[0]
    assert loaded.id == image.id
    assert oci(other, loaded, "x:1") == data


def test_forced_compression_leaves_the_recorded_manifest(store: Store, image: Image) -> None:
    first = oci(store, image, "x:1")
    recorded = store.images.get(image.id)
    forced = oci(store, recorded, "x:1", compression=Compression("zstd", force=True))
    assert forced != first
    assert store.images.get(image.id) == recorded
    assert oci(store, recorded, "x:1") == first


def test_unknown_compression(store: Store, image: Image) -> None:
    with pytest.raises(StoreError, match="lzop"):
        oci(store, image, compression="lzop")


def test_folder(store: Store, image: Image, other: Store, tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    export_oci_folder(store, image, folder, references=[ref("x:1")])
    assert sorted(os.listdir(folder)) == ["blobs", "index.json", "oci-layout"]
    assert load(other, folder)[0] == (other.images.find("x:1"), ref("x:1"))
    export_oci_folder(store, image, folder, references=[ref("x:2")])
    assert [str(name) for _, name in load(other, folder)] == ["docker.io/library/x:2"]


def test_a_lost_layer_is_said_before_anything_is_written(store: Store, image: Image) -> None:
    store.layers.remove(image.config.diff_ids[1])
    buffer = io.BytesIO()
    with pytest.raises(NotFound, match="layer"):
        export_docker(store, [image], buffer)
    assert buffer.getvalue() == b""


def test_a_damaged_layer_is_never_exported(store: Store, image: Image) -> None:
    path = Path(store.layers.path(image.config.diff_ids[1])) / "fs" / "b"
    path.write_bytes(b"3" * 5000)
    with pytest.raises(Corrupt):
        saved(store, image)
    assert store.images.get(image.id).manifest is None


def test_a_damaged_blob_is_never_exported_silently(store: Store, image: Image) -> None:
    oci(store, image)
    image = store.images.get(image.id)
    blob = store.layers.info(image.config.diff_ids[0]).blob
    assert blob is not None
    path = Path(store.content.path(blob.digest))
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match=blob.digest):
        saved(store, image)


def test_a_lost_blob_is_made_again(store: Store, image: Image) -> None:
    first = oci(store, image)
    image = store.images.get(image.id)
    blob = store.layers.info(image.config.diff_ids[0]).blob
    assert blob is not None
    store.content.remove(blob.digest)
    assert oci(store, image) == first


def test_a_damaged_layer_is_never_saved_silently(store: Store, image: Image) -> None:
    tree = Path(store.layers.path(image.config.diff_ids[0])) / "fs"
    path = next(path for path in sorted(tree.rglob("*")) if path.is_file() and path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match=image.config.diff_ids[0]):
        saved(store, image)


def test_a_full_disk_is_one_error(store: Store, image: Image) -> None:
    with open("/dev/full", "wb", buffering=0) as dest, pytest.raises(DiskFull, match="write arch"):
        export_docker(store, [image], dest)  # type: ignore[arg-type]


# -- in


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_round_trip(store: Store, image: Image, other: Store, form: str) -> None:
    data = saved(store, image) if form == "docker" else oci(store, image, "x:1", "ghcr.io/a/b:2")
    loaded = load_bytes(other, data)
    assert {str(name) for _, name in loaded} == {"docker.io/library/x:1", "ghcr.io/a/b:2"}
    assert {image.id for image, _ in loaded} == {image.id}
    assert check(other, deep=True) == []
    assert saved(other, other.images.get(image.id)) == saved(store, image)
    before = state(other)
    assert load_bytes(other, data) == loaded
    assert state(other) == before
    assert collect(other) == 0
    assert state(other) == before


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("way", ["memory", "file", "path", "pipe"])
def test_every_compression_in_every_way(
    store: Store, image: Image, other: Store, tmp_path: Path, name: str, way: str
) -> None:
    data = COMPRESSORS[name](saved(store, image))
    path = tmp_path / "archive"
    path.write_bytes(data)
    if way == "memory":
        loaded = load_bytes(other, data)
    elif way == "path":
        loaded = load(other, path)
    elif way == "file":
        with open(path, "rb") as file:
            loaded = load(other, file)
    else:
        read_fd, write_fd = os.pipe()

        def feed() -> None:
            with open(write_fd, "wb") as sink:
                sink.write(data)

        thread = threading.Thread(target=feed)
        thread.start()
        with open(read_fd, "rb") as source:
            loaded = load(other, source)
        thread.join()
    assert loaded[0][0].id == image.id
    assert check(other, deep=True) == []
    assert os.listdir(f"{other.root}/tmp") == []


def test_several_images(
    store: Store, image: Image, other: Store, add_image: Callable[..., Image]
) -> None:
    second = add_image(store, BASE, {"c": b"3"}, names=("y:1",))
    loaded = load_bytes(other, saved(store, image, second))
    assert {str(name) for _, name in loaded} == {
        "docker.io/library/x:1",
        "ghcr.io/a/b:2",
        "docker.io/library/y:1",
    }
    assert {image.id for image, _ in loaded} == {image.id, second.id}


def old_docker(store: Store, image: Image, **changes: bytes | str) -> dict[str, bytes | str]:
    """Return the files of `docker save` before 25.0, the second layer shared by a symlink."""
    tars = [b"".join(store.layers.stream_tar(d)) for d in image.config.diff_ids]
    config = store.content.get(image.id)
    entry = {
        "Config": f"{image.id[7:]}.json",
        "RepoTags": ["x:1"],
        "Layers": ["aaa/layer.tar", "bbb/layer.tar"],
    }
    files: dict[str, bytes | str] = {
        "aaa/VERSION": b"1.0",
        "aaa/json": b"{}",
        "aaa/layer.tar": tars[0],
        "bbb/json": b"{}",
        "bbb/layer.tar": "../ccc/layer.tar",
        "ccc/layer.tar": tars[1],
        entry["Config"]: config,  # type: ignore[dict-item]
        "manifest.json": json.dumps([entry]).encode(),
        "repositories": b'{"x":{"1":"bbb"}}',
    }
    return files | changes


@pytest.mark.parametrize("prefix", ["", "./"])
def test_old_docker_archive(store: Store, image: Image, other: Store, prefix: str) -> None:
    files = {prefix + name: data for name, data in old_docker(store, image).items()}
    ((loaded, name),) = load_bytes(other, packed(files))
    assert (loaded.id, str(name)) == (image.id, "docker.io/library/x:1")
    assert loaded.manifest is None
    assert check(other, deep=True) == []


def test_layers_compressed_in_any_way_are_kept_only_where_it_pays(
    store: Store, image: Image, other: Store
) -> None:
    files = old_docker(store, image)
    tar = files["aaa/layer.tar"]
    assert isinstance(tar, bytes)
    files["aaa/layer.tar"] = gzip.compress(tar)
    files["ccc/layer.tar"] = lzma.compress(
        b"".join(store.layers.stream_tar(image.config.diff_ids[1]))
    )
    load_bytes(other, packed(files))
    first, second = (other.layers.info(d).blob for d in image.config.diff_ids)
    assert first is not None
    assert first.digest == digest_of(files["aaa/layer.tar"])
    assert second is None
    assert check(other, deep=True) == []


def test_docker_archive_with_plain_layers_gets_its_own_manifest(
    store: Store, image: Image, other: Store
) -> None:
    """docker 25 and later write the layers uncompressed; pushing those on would be a waste."""
    files = unpacked(oci(store, image, "x:1", compression="none"))
    (descriptor,) = Index.from_json(files["index.json"]).manifests
    manifest = Manifest.from_json(files[f"blobs/sha256/{descriptor.digest[7:]}"])
    entry = {
        "Config": f"blobs/sha256/{image.id[7:]}",
        "RepoTags": ["x:1"],
        "Layers": [f"blobs/sha256/{layer.digest[7:]}" for layer in manifest.layers],
    }
    files["manifest.json"] = json.dumps([entry]).encode()
    ((loaded, _),) = load_bytes(other, packed(files))
    assert loaded.manifest is None
    assert list(other.content.iter()) == [image.id]
    assert check(other, deep=True) == []


def without(files: Files, *prefixes: str) -> Files:
    return {name: data for name, data in files.items() if not name.startswith(prefixes)}


def damage(form: str, files: Files, image: Image) -> Files:
    """Return an archive's files with one thing wrong."""
    (layer, *_) = layers_of(files)
    config = f"blobs/sha256/{image.id[7:]}"
    if form == "layer flipped":
        data = bytearray(files[layer])
        data[len(data) // 2] ^= 0x10
        return files | {layer: bytes(data)}
    if form == "layer another":
        return files | {layer: gzip.compress(packed({"z": b"z"}))}
    if form == "layer gone":
        return without(files, layer)
    if form == "layer short":
        return files | {layer: files[layer][:-100]}
    if form == "config gone":
        return without(files, config)
    if form == "config another":
        return files | {config: files[config].replace(b"amd64", b"arm64")}
    if form == "index garbage":
        return files | {"index.json": b"{", "manifest.json": b"["}
    if form == "index empty":
        return files | {"index.json": b'{"schemaVersion":2,"manifests":[]}', "manifest.json": b"[]"}
    if form == "layout newer":
        return files | {"oci-layout": b'{"imageLayoutVersion":"2.0.0"}'}
    assert form == "nothing of ours"
    return {"etc/passwd": b"root"}


FORMS = [
    "layer flipped",
    "layer another",
    "layer gone",
    "layer short",
    "config gone",
    "config another",
    "index garbage",
    "index empty",
    "layout newer",
    "nothing of ours",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", ["file docker", "stream docker", "file oci", "stream oci"])
def test_a_broken_archive_changes_nothing(
    store: Store,
    image: Image,
    other: Store,
    tmp_path: Path,
    form: str,
    way: str,
) -> None:
    files = unpacked(saved(store, image) if "docker" in way else oci(store, image, "x:1"))
    data = packed(damage(form, files, image))
    before = state(other)
    path = tmp_path / "archive.tar"
    path.write_bytes(data)
    with pytest.raises(BadArchive) as caught:
        load(other, path if "file" in way else io.BytesIO(data))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("load")
    assert state(other) == before


def test_a_broken_folder_changes_nothing(
    store: Store, image: Image, other: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "layout"
    export_oci_folder(store, image, folder, references=[ref("x:1")])
    blob = store.layers.info(image.config.diff_ids[1]).blob
    assert blob is not None
    (folder / "blobs" / "sha256" / blob.digest[7:]).unlink()
    before = state(other)
    with pytest.raises(BadArchive, match=blob.digest[7:]):
        load(other, folder)
    os.symlink("/etc/passwd", folder / "blobs" / "sha256" / blob.digest[7:])
    with pytest.raises(BadArchive, match="symbolic links"):
        load(other, folder)
    assert state(other) == before


@pytest.mark.parametrize("name", COMPRESSORS)
def test_truncation_anywhere_changes_nothing(
    store: Store, image: Image, other: Store, tmp_path: Path, name: str
) -> None:
    whole = saved(store, image)
    data = COMPRESSORS[name](whole)
    before = state(other)
    # Of the two zero blocks that end a plain tar one will do.
    end = len(data) - (1024 if name == "none" else 1)
    path = tmp_path / "archive.tar"
    for cut in [*range(0, end, max(1, end // 40)), end]:
        path.write_bytes(data[:cut])
        for source in (io.BytesIO(data[:cut]), path):
            with pytest.raises(BadArchive):
                load(other, source)
    assert state(other) == before


def test_a_failure_keeps_what_was_there(store: Store, image: Image, other: Store) -> None:
    data = saved(store, image)
    load_bytes(other, data)
    other.images.untag(ref("x:1"))
    before = state(other)
    files = damage("layer another", unpacked(data), image)
    files |= {"index.json": b"{}"}
    with pytest.raises(BadArchive):
        load_bytes(other, packed(files))
    assert state(other) == before
    assert check(other, deep=True) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"manifest.json": b'[{"Config":"../../etc/passwd","Layers":[]}]'},
        {"manifest.json": b'[{"Config":"/etc/passwd","Layers":[]}]'},
        {"manifest.json": b'[{"Config":"aaa/json","Layers":[]}]'},
        {"manifest.json": b'[{"Config":["x"],"Layers":[]}]'},
        {"manifest.json": b'["x"]'},
        {"manifest.json": b'{"a":1}'},
        {"manifest.json": b"[" * 100_000},
        {"bbb/layer.tar": "../bbb/layer.tar"},
        {"bbb/layer.tar": "/etc/passwd"},
        {"bbb/layer.tar": "../../../../etc/passwd"},
        {"bbb/layer.tar": "../aaa/layer.tar"},
        {"ccc/layer.tar": b""},
        {"ccc/layer.tar": b"no tar at all" * 100},
    ],
)
def test_hostile_docker_archives(
    store: Store, image: Image, other: Store, changes: dict[str, bytes | str]
) -> None:
    before = state(other)
    with pytest.raises(BadArchive):
        load_bytes(other, packed(old_docker(store, image) | changes))
    assert state(other) == before


def test_a_bad_tag_is_refused(store: Store, image: Image, other: Store) -> None:
    files = old_docker(store, image)
    entry = json.loads(files["manifest.json"])[0] | {"RepoTags": ["X Y"]}
    files["manifest.json"] = json.dumps([entry]).encode()
    with pytest.raises(BadArchive, match="X Y"):
        load_bytes(other, packed(files))


def test_a_root_file_system_gets_a_hint(other: Store) -> None:
    with pytest.raises(BadArchive) as caught:
        load_bytes(other, packed({"etc/passwd": b""}))
    assert caught.value.hint is not None
    assert "import" in caught.value.hint


def multi_platform(store: Store, image: Image) -> tuple[Files, list[Digest]]:
    """Return a layout with an index: this image, one for arm64, an absent one, an attestation."""
    files = unpacked(oci(store, image, "x:1"))
    (amd,) = Index.from_json(files["index.json"]).manifests
    manifest = json.loads(files[f"blobs/sha256/{amd.digest[7:]}"])

    def put(value: object) -> dict[str, object]:
        data = json.dumps(value).encode()
        files[f"blobs/sha256/{digest_of(data)[7:]}"] = data
        return {"digest": digest_of(data), "size": len(data)}

    config = json.loads(store.content.get(image.id)) | {"architecture": "arm64"}
    arm_config = manifest["config"] | put(config)
    arm = put(manifest | {"config": arm_config}) | {"mediaType": amd.media_type}
    statement = put({"proof": 1}) | {"mediaType": "application/vnd.in-toto+json"}
    empty = put({"rootfs": {}}) | {"mediaType": manifest["config"]["mediaType"]}
    proof = put(manifest | {"config": empty, "layers": [statement]})
    proof |= {
        "mediaType": amd.media_type,
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        "platform": {"os": "unknown", "architecture": "unknown"},
    }
    absent = {"mediaType": amd.media_type, "digest": digest_of(b"absent"), "size": 6}
    plain = {"mediaType": amd.media_type, "digest": amd.digest, "size": amd.size_bytes}
    media_type = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": media_type, "manifests": [absent, arm, plain, proof]}
    top = put(index) | {"mediaType": media_type, "annotations": dict(amd.annotations or {})}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    ids = [image.id, Digest(str(arm_config["digest"]))]
    return files, [*ids, Digest(str(top["digest"])), Digest(str(statement["digest"]))]


def test_an_index_with_platforms(store: Store, image: Image, other: Store) -> None:
    files, (amd, arm, index, statement) = multi_platform(store, image)
    data = packed(files)
    ((loaded, name),) = load(other, io.BytesIO(data), platform=Platform("linux", "amd64"))
    assert (loaded.id, str(name)) == (amd, "docker.io/library/x:1")
    assert other.images.find("x:1").id == amd
    assert other.images.find("x:1", platform=Platform("linux", "arm64", "v8")).id == arm
    assert other.images.find(f"x@{index}").id == amd
    before = state(other)
    assert collect(other) == 0
    assert state(other) == before
    assert other.content.has(statement)
    assert check(other, deep=True) == []


def saved_index(store: Store, name: str) -> Files:
    """Return the archive of what `name` leads to, an index."""
    record = store.images.reference(ref(name))
    assert record is not None
    selection = Selection(store.images.find(name), [ref(name)], record.target)
    buffer = io.BytesIO()
    export_docker(store, [selection], buffer)
    return unpacked(buffer.getvalue())


def test_an_index_is_saved_as_it_is(
    store: Store, image: Image, other: Store, tmp_path: Path
) -> None:
    files, (amd, arm, index, statement) = multi_platform(store, image)
    load(other, io.BytesIO(packed(files)))
    saved = saved_index(other, "x:1")
    (top,) = Index.from_json(saved["index.json"]).manifests
    assert (top.digest, top.platform) == (index, None)
    name = f"blobs/sha256/{index[7:]}"
    assert saved[name] == files[name]
    assert {f"blobs/sha256/{digest[7:]}" for digest in (amd, arm, statement)} <= saved.keys()
    (entry,) = json.loads(saved["manifest.json"])
    assert entry["Config"] == f"blobs/sha256/{amd[7:]}"
    with Store.open(tmp_path / "third") as third:
        ((loaded, _),) = load(third, io.BytesIO(packed(saved)))
        assert loaded.id == amd
        assert third.images.find("x:1", platform=Platform("linux", "arm64")).id == arm
        assert third.images.find(f"x@{index}").id == amd
        assert third.content.has(statement)
        assert saved_index(third, "x:1") == saved
        assert check(third, deep=True) == []


def test_what_is_not_here_of_an_index_is_left_out(store: Store, image: Image, other: Store) -> None:
    files, (amd, arm, index, _) = multi_platform(store, image)
    load(other, io.BytesIO(packed(files)), platform=Platform("linux", "amd64"), alone=True)
    assert not other.images.has(arm)
    saved = saved_index(other, "x:1")
    assert Index.from_json(saved["index.json"]).manifests[0].digest == index
    assert f"blobs/sha256/{arm[7:]}" not in saved
    assert f"blobs/sha256/{amd[7:]}" in saved


def test_a_platform_that_an_archive_lacks(store: Store, image: Image, other: Store) -> None:
    files, _ = multi_platform(store, image)
    before = state(other)
    with pytest.raises(BadArchive, match="no image for platform linux/s390x"):
        load(other, io.BytesIO(packed(files)), platform=Platform("linux", "s390x"), alone=True)
    assert state(other) == before


def test_the_platform_asked_for(store: Store, image: Image, other: Store) -> None:
    files, (_, arm, _, _) = multi_platform(store, image)
    ((loaded, _),) = load(other, io.BytesIO(packed(files)), platform=Platform("linux", "arm64"))
    assert loaded.id == arm


def test_config_bytes_survive(store: Store, image: Image, other: Store) -> None:
    """An image ID is the digest of bytes that some other tool wrote."""
    files = old_docker(store, image)
    value = json.loads(store.content.get(image.id)) | {"docker_version": "1.2"}
    config = json.dumps(value, indent=3).encode()
    entry = json.loads(files["manifest.json"])[0] | {"Config": "config.json"}
    files |= {"config.json": config, "manifest.json": json.dumps([entry]).encode()}
    ((loaded, _),) = load_bytes(other, packed(files))
    assert loaded.id == digest_of(config)
    assert loaded.config == ImageConfig.from_json(config)
    assert digest_of(unpacked(saved(other, loaded))[f"blobs/sha256/{loaded.id[7:]}"]) == loaded.id
