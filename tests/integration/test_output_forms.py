"""Forms of images: compression, media types, annotations, times, names; other tools judge."""

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

EPOCH = 1_600_000_000


@pytest.fixture
def made(pybuild, busybox_image, context: Path) -> Path:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image} AS app\nRUN echo hello > /greeting\n"
        'CMD ["cat", "/greeting"]\nFROM app AS test\nRUN echo test > /greeting\nFROM app\n'
    )
    return context


@pytest.fixture
def registry(start_registry):
    return start_registry().host


@pytest.fixture
def raw(peers):
    """Return a function: raw(reference) is the document that skopeo finds there."""

    def inspect(reference: str):
        words = ["inspect", "--raw", "--tls-verify=false", reference]
        return json.loads(peers("skopeo")(*words))

    return inspect


def layer_types(manifest) -> set[str]:
    return {layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]}


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ("compression=gzip,compression-level=1", {"tar+gzip"}),
        ("compression=zstd,compression-level=3", {"tar+zstd"}),
        ("compression=uncompressed", {"tar"}),
    ],
)
def test_compression(pybuild, made, tmp_path, raw, peers, tool, options, kinds) -> None:
    layout = tmp_path / "layout"
    pybuild("-t", "x:1", "-o", f"type=oci,tar=false,dest={layout},{options}", made)
    assert layer_types(raw(f"oci:{layout}:1")) == kinds
    # skopeo reads every layer and compares digests.
    peers("skopeo")("copy", f"oci:{layout}:1", f"dir:{tmp_path}/copy")
    if kinds != {"tar+zstd"}:  # of which umoci knows nothing
        umoci = [tool("umoci"), "unpack", "--image", f"{layout}:1", str(tmp_path / "bundle")]
        subprocess.run(umoci, check=True, capture_output=True)
        assert (tmp_path / "bundle/rootfs/greeting").read_text() == "hello\n"


def test_forced_compression_changes_blobs_that_are_there(
    pybuild, made, registry, raw, tmp_path
) -> None:
    pybuild("-t", f"{registry}/x:1", "--push", made)
    plain = f"type=registry,name={registry}/x:2,compression=zstd"
    pybuild("-o", plain, made)
    assert layer_types(raw(f"docker://{registry}/x:2")) == {"tar+gzip"}, "they have blobs already"
    pybuild("-o", f"{plain},force-compression=true", made)
    assert layer_types(raw(f"docker://{registry}/x:2")) == {"tar+zstd"}


def test_media_types_of_docker(pybuild, made, registry, raw, peers) -> None:
    name = f"{registry}/x:1"
    pybuild("-o", f"type=image,push=true,name={name},oci-mediatypes=false", made)
    manifest = raw(f"docker://{name}")
    kind = "application/vnd.docker"
    assert manifest["mediaType"] == f"{kind}.distribution.manifest.v2+json"
    assert manifest["config"]["mediaType"] == f"{kind}.container.image.v1+json"
    assert {layer["mediaType"] for layer in manifest["layers"]} == {
        f"{kind}.image.rootfs.diff.tar.gzip"
    }
    podman = peers("podman")
    assert podman("run", "--rm", "--network=none", "--tls-verify=false", name) == "hello\n"


def test_annotations(pybuild, made, registry, raw, tmp_path) -> None:
    name, layout = f"{registry}/x:1", tmp_path / "layout"
    flags = ["--annotation", "org.Title=both", "--annotation", "manifest-descriptor:d=e"]
    registry_output = f"type=registry,name={name},annotation.only=here"
    pybuild(*flags, "-o", registry_output, "-o", f"type=oci,tar=false,dest={layout}", made)
    assert raw(f"docker://{name}")["annotations"] == {"org.Title": "both", "only": "here"}
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert entry["annotations"]["d"] == "e"
    digest = entry["digest"].removeprefix("sha256:")
    manifest = json.loads((layout / "blobs/sha256" / digest).read_text())
    assert manifest["annotations"] == {"org.Title": "both"}
    done = pybuild("--annotation", "index:a=b", "-t", "x", made, check=False)
    assert "annotations of type index: a single image has no index" in done.stderr


def test_push_by_digest(pybuild, made, registry, raw, tmp_path, peers) -> None:
    metadata = tmp_path / "metadata.json"
    output = f"type=registry,name={registry}/x,push-by-digest=true"
    pybuild("--metadata-file", metadata, "-o", output, made)
    digest = json.loads(metadata.read_text())["containerimage.digest"]
    assert raw(f"docker://{registry}/x@{digest}")["config"]
    listed = subprocess.run(
        ["curl", "-s", f"http://{registry}/v2/x/tags/list"], capture_output=True, check=True
    )
    assert not json.loads(listed.stdout).get("tags"), "no tag names it"


def test_names_of_all_outputs(pybuild, made, registry, raw, tmp_path) -> None:
    one, two = f"{registry}/one:1", f"{registry}/two:1"
    archive = tmp_path / "all.tar"
    words = ["-t", one, "-t", f"test={registry}/test:1", "-o", f"type=oci,dest={archive}"]
    pybuild(*words, "--push", "-o", f'type=image,"name={two},local:1"', "--load", made)
    assert raw(f"docker://{one}") != raw(f"docker://{registry}/test:1")
    assert {one, two, "local:1", f"{registry}/test:1"} < pybuild.image_names()
    assert pybuild("run", "--rm", "local:1").stdout == "hello\n"
    assert pybuild("run", "--rm", f"{registry}/test:1").stdout == "test\n"
    with tarfile.open(archive) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    names = [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]]
    assert names == [one, f"{registry}/test:1"]


def test_docker_layout_as_a_folder(pybuild, made, tmp_path, peers) -> None:
    folder = tmp_path / "docker"
    pybuild("-t", "x:1", "-o", f"type=docker,tar=false,dest={folder},compression=gzip", made)
    subprocess.run(["tar", "-C", folder, "-cf", tmp_path / "docker.tar", "."], check=True)
    assert "x:1" in peers("podman")("load", "-i", tmp_path / "docker.tar")


def test_a_folder_of_its_own_for_the_platform(pybuild, made, tmp_path) -> None:
    pybuild("-o", f"type=local,dest={tmp_path}/out,platform-split=true", made)
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("linux_")
    assert (folder / "greeting").read_text() == "hello\n"
    pybuild("-o", f"type=tar,dest={tmp_path}/out.tar,platform-split=true", made)
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert f"{folder.name}/greeting" in tar.getnames()


def test_times_are_rewritten(pybuild, made, tmp_path, raw) -> None:
    archive = tmp_path / "image.tar"
    words = ["--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}", "-t", "x:1"]
    pybuild(*words, "-o", f"type=oci,dest={archive},rewrite-timestamp=true", made)
    later = [member.mtime for layer in layers(archive) for member in layer if member.mtime > EPOCH]
    kept = [member.mtime for member in layers(archive)[0]]
    assert set(kept) == {1_700_000_000}, "the base is what it was"
    assert len(later) == len(kept), "and nothing else is later"
    config = json.loads(pybuild("inspect", "x:1").stdout)[0]
    assert config["Created"] == "2020-09-13T12:26:40Z"
    first = pybuild("inspect", "-f", "{{.Id}}", "x:1").stdout
    again = tmp_path / "again.tar"
    pybuild(*words, "-o", f"type=oci,dest={again},rewrite-timestamp=true", made)
    assert again.read_bytes() == archive.read_bytes()
    assert pybuild("inspect", "-f", "{{.Id}}", "x:1").stdout == first
    assert pybuild("run", "--rm", "x:1").stdout == "hello\n"


def layers(archive: Path) -> list[list[tarfile.TarInfo]]:
    found = []
    with tarfile.open(archive) as outer:

        def blob(digest: str):
            return outer.extractfile(f"blobs/sha256/{digest[7:]}")

        index = json.load(outer.extractfile("index.json"))  # type: ignore[arg-type]
        for layer in json.load(blob(index["manifests"][0]["digest"]))["layers"]:
            with tarfile.open(fileobj=blob(layer["digest"])) as tar:
                found.append(tar.getmembers())
    return found
