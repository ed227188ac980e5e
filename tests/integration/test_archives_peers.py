"""Archives between us and skopeo, umoci, podman and buildah, in both directions."""

import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.mounting import open_overlay
from store.archive import export_docker, export_oci, export_oci_folder, import_rootfs, load
from store.check import check
from store.digest import Digest
from store.images import Image
from store.mediatypes import OCI_INDEX
from store.oci import ContainerConfig, Descriptor, HistoryEntry, ImageConfig, Index
from store.reference import Reference
from store.root import Store

pytestmark = pytest.mark.kernel

NAME = "localhost/archives:1"
Tool = Callable[[str], str]
Peers = Callable[[str], Callable[..., str]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "ours") as store:
        yield store


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as store:
        yield store


def second_layer() -> bytes:
    """Return a layer that deletes, replaces, links and owns."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(
            name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object
        ) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mtime = kind, len(data), 1_600_000_000
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))

        add("bin", tarfile.DIRTYPE, mode=0o755)
        add("bin/.wh.vi")
        add("etc", tarfile.DIRTYPE, mode=0o755)
        add("etc/motd", data=b"hello\n", mode=0o640, uid=1000, gid=50)
        add("etc/same", tarfile.LNKTYPE, linkname="etc/motd")
        add("home", tarfile.DIRTYPE, mode=0o755)
        add("home/.wh..wh..opq")
        add("home/new", tarfile.DIRTYPE, mode=0o2711, uid=7)
        add("größe " + "n" * 120, data=b"long")
        add("pipe", tarfile.FIFOTYPE, mode=0o600)
    return buffer.getvalue()


@pytest.fixture
def image(store: Store, busybox_rootfs: Path) -> Image:
    with open(busybox_rootfs, "rb") as tar:
        base = import_rootfs(store, tar)
    layer = store.layers.unpack([second_layer()], below=base.config.diff_ids)
    config = ImageConfig(
        "amd64",
        "linux",
        created="2024-01-02T03:04:05Z",
        config=ContainerConfig(
            cmd=("/bin/cat", "/etc/motd"), env=("PATH=/bin", "X=<&>"), labels=(("a.b", "ü"),)
        ),
        diff_ids=(*base.config.diff_ids, layer),
        history=(HistoryEntry(created_by="import"), HistoryEntry(created_by="second")),
    )
    return store.images.add(config, references=[Reference.parse(NAME)])


def docker_archive(store: Store, image: Image, path: Path) -> Path:
    with open(path, "wb") as file:
        export_docker(store, [image], file)
    return path


def oci_archive(store: Store, image: Image, path: Path) -> Path:
    with open(path, "wb") as file:
        export_oci(store, image, file, references=image.references)
    return path


def run(*argv: str | Path) -> str:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def tree(root: str) -> dict[str, tuple[object, ...]]:
    """Return what a tar can say about every file below `root`."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            content = ""
            if stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            links = 0 if stat.S_ISDIR(info.st_mode) else info.st_nlink
            found[os.path.relpath(path, root)] = (
                *(info.st_mode, info.st_uid, info.st_gid, int(info.st_mtime)),
                *(info.st_rdev, links, content),
            )
    return found


def our_tree(store: Store, image: Image) -> dict[str, tuple[object, ...]]:
    root = open_overlay(store.snapshots.view(image.config.diff_ids))
    try:
        return tree(f"/proc/self/fd/{root}/")
    finally:
        os.close(root)


# -- ours, read by them


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_skopeo_reads_ours(
    store: Store, image: Image, tool: Tool, tmp_path: Path, form: str
) -> None:
    write = docker_archive if form == "docker-archive" else oci_archive
    source = f"{form}:{write(store, image, tmp_path / 'image.tar')}"
    skopeo = tool("skopeo")
    assert json.loads(run(skopeo, "inspect", "--config", source)) == json.loads(
        store.content.get(image.id)
    )
    layout = tmp_path / "layout"
    run(skopeo, "copy", "--insecure-policy", source, f"oci:{layout}:t")
    assert image.id[7:] in os.listdir(layout / "blobs/sha256")


def test_skopeo_keeps_our_manifest(store: Store, image: Image, tool: Tool, tmp_path: Path) -> None:
    archive = oci_archive(store, image, tmp_path / "image.tar")
    layout = tmp_path / "layout"
    run(tool("skopeo"), "copy", "--insecure-policy", f"oci-archive:{archive}", f"oci:{layout}:t")
    manifest = store.images.get(image.id).manifest
    assert manifest is not None
    assert manifest.digest[7:] in os.listdir(layout / "blobs/sha256")


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_umoci_unpacks_our_tree(
    store: Store, image: Image, tool: Tool, tmp_path: Path, compression: str
) -> None:
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    export_oci_folder(
        store,
        image,
        layout,
        references=image.references,
        compression=compression,
    )
    run(tool("umoci"), "unpack", "--image", f"{layout}:1", bundle)
    theirs = tree(str(bundle / "rootfs"))
    assert "bin/vi" not in theirs
    assert "home/app" not in theirs
    assert theirs == our_tree(store, image)


@pytest.mark.parametrize("write", [docker_archive, oci_archive])
@pytest.mark.parametrize("name", ["podman", "buildah"])
def test_podman_and_buildah_take_ours(
    store: Store,
    image: Image,
    peers: Peers,
    tmp_path: Path,
    write: Callable[[Store, Image, Path], Path],
    name: str,
) -> None:
    archive = write(store, image, tmp_path / "image.tar")
    peer = peers(name)
    if name == "podman":
        peer("load", "--input", archive)
        assert image.id in peer("images", "--no-trunc")
        assert NAME in peer("images", "--format", "{{.Repository}}:{{.Tag}}")
        assert peer("run", "--rm", "--network", "none", NAME) == "hello\n"
    else:
        form = "docker-archive" if write is docker_archive else "oci-archive"
        peer("pull", f"{form}:{archive}")
        assert image.id in peer("images", "--no-trunc")


def index_layout(store: Store, image: Image, folder: Path) -> bytes:
    """Write a layout whose name leads to an index of `image` and of one for s390x; return it."""
    config = replace(image.config, architecture="s390x")
    other = store.images.add(config)
    manifests = []
    for each in (other, image):
        top = export_oci_folder(store, each, folder)
        manifests.append(replace(top, platform=each.config.platform))
    data = Index(tuple(manifests)).to_json()
    digest = hashlib.sha256(data).hexdigest()
    (folder / "blobs/sha256" / digest).write_bytes(data)
    names = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "1"}
    entry = Descriptor(OCI_INDEX, Digest(f"sha256:{digest}"), len(data), names)
    (folder / "index.json").write_bytes(Index((entry,)).to_json())
    return data


def test_an_index_goes_through_us_unchanged(
    pybuild, store: Store, image: Image, tool: Tool, peers: Peers, tmp_path: Path
) -> None:
    layout, archive, again = tmp_path / "layout", tmp_path / "a.tar", tmp_path / "again"
    index = index_layout(store, image, layout)
    assert pybuild("load", "-i", layout).stdout == f"Loaded image: {NAME}\n"
    assert len(pybuild("images", "-q").stdout.split()) == 1, "one name, one row"
    assert len(pybuild("images", "-aq").stdout.split()) == 2
    pybuild("image", "prune", "-f")
    pybuild("save", "-o", archive, NAME)
    raw = run(tool("skopeo"), "inspect", "--raw", f"oci-archive:{archive}:1")
    assert raw.encode() == index
    copy = ("copy", "--insecure-policy", "--all", f"oci-archive:{archive}:1", f"oci:{again}:1")
    run(tool("skopeo"), *copy)
    assert run(tool("skopeo"), "inspect", "--raw", f"oci:{again}:1").encode() == index
    podman = peers("podman")
    podman("load", "--input", archive)
    assert podman("run", "--rm", "--network", "none", NAME) == "hello\n"
    one = tmp_path / "one.tar"
    pybuild("save", "--platform", "linux/s390x", "-o", one, NAME)
    config = run(tool("skopeo"), "inspect", "--config", f"oci-archive:{one}:1")
    assert json.loads(config)["architecture"] == "s390x"
    seen = pybuild("inspect", "--platform", "linux/s390x", "-f", "{{.Architecture}}", NAME)
    assert seen.stdout == "s390x\n"
    lines = pybuild("rmi", NAME).stdout.splitlines()
    assert [line.split(":")[0] for line in lines][:3] == ["Untagged", "Deleted", "Deleted"]
    assert pybuild("images", "-aq").stdout == ""
    assert os.listdir(pybuild.root / "blobs" / "sha256") == []
    pybuild("load", "-i", archive, "--platform", "linux/s390x")
    assert pybuild("inspect", "-f", "{{.Architecture}}", NAME).stdout == "s390x\n"
    assert pybuild("system", "check", "--deep").stdout == "clean\n"


# -- theirs, read by us


def skopeo_copy(tool: Tool, source: str, target: str) -> None:
    run(tool("skopeo"), "copy", "--insecure-policy", source, target)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci", "zstd"])
def test_we_read_skopeos(
    store: Store, image: Image, other: Store, tool: Tool, tmp_path: Path, form: str
) -> None:
    ours = oci_archive(store, image, tmp_path / "image.tar")
    path = tmp_path / "theirs"
    transport = "oci" if form == "zstd" else form
    words = ["--dest-compress-format", "zstd"] if form == "zstd" else []
    name = NAME if transport == "docker-archive" else "1"
    source, target = f"oci-archive:{ours}", f"{transport}:{path}:{name}"
    run(tool("skopeo"), "copy", "--insecure-policy", *words, source, target)
    ((loaded, reference),) = load(other, path)
    assert loaded.id == image.id
    assert (str(reference) if reference else None) == (
        NAME if transport == "docker-archive" else None
    )
    assert check(other, deep=True) == []
    assert our_tree(other, loaded) == our_tree(store, image)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_we_read_podmans(
    store: Store, image: Image, other: Store, peers: Peers, tmp_path: Path, form: str
) -> None:
    podman, path = peers("podman"), tmp_path / "theirs"
    podman("load", "--input", docker_archive(store, image, tmp_path / "image.tar"))
    podman("save", "--format", form, "--output", path, NAME)
    ((loaded, reference),) = load(other, path)
    assert (loaded.id, str(reference)) == (image.id, NAME)
    assert check(other, deep=True) == []
    assert our_tree(other, loaded) == our_tree(store, image)


def test_we_read_several_images_of_podman(
    store: Store, image: Image, other: Store, peers: Peers, tmp_path: Path
) -> None:
    podman, path = peers("podman"), tmp_path / "theirs"
    podman("load", "--input", docker_archive(store, image, tmp_path / "image.tar"))
    podman("tag", NAME, "localhost/second:2", "localhost/third:3")
    podman("save", "--multi-image-archive", "--output", path, NAME, "localhost/second:2")
    names = sorted(str(reference) for _, reference in load(other, path))
    assert set(names) >= {NAME, "localhost/second:2"}
    assert len(other.images.list()) == 1


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_we_read_buildahs(
    store: Store, image: Image, other: Store, peers: Peers, tmp_path: Path, form: str
) -> None:
    buildah, path = peers("buildah"), tmp_path / "theirs"
    buildah("pull", f"oci-archive:{oci_archive(store, image, tmp_path / 'image.tar')}")
    container = buildah("from", "--pull-never", NAME).strip()
    buildah("config", "--label", "by=buildah", container)
    buildah("commit", "--quiet", container, "localhost/changed:1")
    buildah("push", "localhost/changed:1", f"{form}:{path}:localhost/changed:1")
    ((loaded, reference),) = load(other, path)
    assert str(reference) == "localhost/changed:1"
    assert ("by", "buildah") in loaded.config.config.labels
    assert loaded.config.diff_ids[:2] == image.config.diff_ids
    assert check(other, deep=True) == []


def test_we_read_umocis(
    store: Store, image: Image, other: Store, tool: Tool, tmp_path: Path
) -> None:
    umoci, layout, bundle = tool("umoci"), tmp_path / "layout", tmp_path / "bundle"
    export_oci_folder(store, image, layout, references=image.references)
    run(umoci, "unpack", "--image", f"{layout}:1", bundle)
    (bundle / "rootfs/etc/motd").write_text("changed\n")
    (bundle / "rootfs/pipe").unlink()
    run(umoci, "repack", "--image", f"{layout}:2", bundle)
    loaded = {tuple(image.config.diff_ids): image for image, _ in load(other, layout)}
    (changed,) = [found for chain, found in loaded.items() if len(chain) == 3]
    theirs = our_tree(other, changed)
    assert "pipe" not in theirs
    assert theirs["etc/motd"][-1] == hashlib.sha256(b"changed\n").hexdigest()
    assert check(other, deep=True) == []


def test_there_and_back_through_everyone(
    store: Store, image: Image, other: Store, tool: Tool, tmp_path: Path
) -> None:
    """The manifest that was recorded at the first export survives skopeo and our own load."""
    archive = oci_archive(store, image, tmp_path / "one.tar")
    skopeo_copy(tool, f"oci-archive:{archive}", f"oci:{tmp_path / 'layout'}:1")
    ((loaded, _),) = load(other, tmp_path / "layout")
    assert loaded.manifest == store.images.get(image.id).manifest
    again = oci_archive(other, loaded, tmp_path / "two.tar")
    with tarfile.open(again) as tar, tarfile.open(archive) as before:
        blobs = {name for name in tar.getnames() if name.startswith("blobs/")}
        assert blobs == {name for name in before.getnames() if name.startswith("blobs/")}
