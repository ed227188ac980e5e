"""Pushes to a registry that behaves, and to one that does not."""

import gzip
import json
from pathlib import Path

import pytest

from registry_client.errors import (
    BadStatus,
    DigestMismatch,
    RateLimited,
    RegistryError,
    Unauthorized,
    Unreachable,
)
from registry_client.events import BlobDone, BlobMoved, Outcome, Retrying
from registry_client.pull import pull
from registry_client.push import push
from store import check
from store.digest import DiffID
from store.errors import Corrupt, NotFound
from store.manifests import Compression
from store.oci import ImageConfig, Platform
from store.reference import Reference
from store.root import Store

OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def local(store, make) -> ImageConfig:
    """Return the config of an image that was made here: layers without blobs."""
    diff_ids = tuple(
        store.layers.unpack([make.tar({f"file{n}": bytes([n]) * 700_000})]) for n in range(3)
    )
    return ImageConfig("amd64", "linux", diff_ids=diff_ids)


@pytest.fixture
def reference(registry) -> Reference:
    return Reference.parse(f"{registry.host}/mine:1")


def at_registry(registry, reference) -> tuple[dict, list[bytes]]:
    """Return the manifest that a tag names and its layers' tars, every digest checked."""
    name = reference.repository
    digest = registry.tags[name, reference.tag]
    media_type, data = registry.documents[name, digest]
    manifest = json.loads(data)
    assert manifest.get("mediaType", media_type) == media_type
    tars = []
    for entry in [manifest["config"], *manifest["layers"]]:
        blob = registry.blobs[name, entry["digest"]]
        assert len(blob) == entry["size"]
        tars.append(gzip.decompress(blob) if blob[:2] == b"\x1f\x8b" else blob)
    return manifest, tars[1:]


def push_local(store, local, reference, access, **more):
    store.images.add(local, references=[reference])
    return push(store, reference, access=access, **more)


# --- what goes


def test_a_local_image(registry, store, local, reference, access) -> None:
    events = []
    pushed = push_local(store, local, reference, access, on_event=events.append)
    manifest, tars = at_registry(registry, reference)
    assert manifest["config"]["digest"] == pushed.image.id
    expected = [b"".join(store.layers.stream_tar(diff_id)) for diff_id in local.diff_ids]
    assert tars == expected
    assert {e.outcome for e in events if isinstance(e, BlobDone)} == {Outcome.PUSHED}
    assert [e for e in events if isinstance(e, BlobMoved)]
    # The manifest is the last thing that goes.
    assert registry.seen[-1][:2] == ("PUT", "/v2/mine/manifests/1")
    name = f"{registry.host}/mine@{pushed.target.digest}"
    assert store.images.find(name).id == pushed.image.id
    assert [str(problem) for problem in check.check(store, deep=True)] == []


def test_connections_are_used_again(registry, store, local, reference, access) -> None:
    push_local(store, local, reference, access)
    assert len(registry.seen) > 10
    assert registry.connections <= 4  # one a thread


def test_again_sends_no_blob_and_the_same_manifest(
    registry, store, local, reference, access
) -> None:
    first = push_local(store, local, reference, access)
    registry.seen.clear()
    events = []
    second = push(store, reference, access=access, on_event=events.append)
    assert second.target == first.target
    assert registry.asked("POST") == []
    assert {e.outcome for e in events if isinstance(e, BlobDone)} == {Outcome.EXISTS}


def test_the_same_bytes_to_another_registry(
    registry, elsewhere, store, local, reference, access
) -> None:
    push_local(store, local, reference, access)
    there = Reference.parse(f"{elsewhere.host}/other/name:2")
    store.images.tag(store.images.find(str(reference)).id, there)
    push(store, there, access=access)
    digest = registry.tags["mine", "1"]
    assert elsewhere.tags["other/name", "2"] == digest
    assert elsewhere.documents["other/name", digest] == registry.documents["mine", digest]


def test_a_pulled_image_goes_byte_for_byte(registry, elsewhere, store, image, access) -> None:
    digest = elsewhere.add("app", "1", image)
    origin = Reference.parse(f"{elsewhere.host}/app:1")
    pulled = pull(store, origin, access=access)
    target = Reference.parse(f"{registry.host}/copy:1")
    store.images.tag(pulled.image.id, target)
    pushed = push(store, target, access=access)
    assert pushed.target.digest == digest
    assert registry.documents["copy", digest] == elsewhere.documents["app", digest]


def test_a_whole_index_goes_as_it_is(registry, elsewhere, store, image, access, make) -> None:
    arm = make.image([make.tar({"arm": b"arm"})], architecture="arm64")
    for one in (image, arm):
        elsewhere.add("app", "part", one)
    index = make.index(image, arm)
    digest = elsewhere.add_document("app", "1", index, OCI_INDEX)
    origin = Reference.parse(f"{elsewhere.host}/app:1")
    for architecture in ("arm64", "amd64"):
        pull(store, origin, platform=Platform("linux", architecture), access=access)
    target = Reference.parse(f"{registry.host}/copy:1")
    image_id = store.images.find(str(origin)).id
    record = store.images.reference(origin)
    store.images.tag(image_id, target, target=record.target)
    assert push(store, target, access=access).target.digest == digest
    assert registry.documents["copy", digest] == (OCI_INDEX, index)


def test_an_index_of_which_a_part_is_missing(
    registry, elsewhere, store, image, access, make
) -> None:
    arm = make.image([make.tar({"arm": b"arm"})], architecture="arm64")
    for one in (image, arm):
        elsewhere.add("app", "part", one)
    elsewhere.add_document("app", "1", make.index(image, arm), OCI_INDEX)
    origin = Reference.parse(f"{elsewhere.host}/app:1")
    pulled = pull(store, origin, platform=Platform("linux", "amd64"), access=access)
    target = Reference.parse(f"{registry.host}/copy:1")
    store.images.tag(pulled.image.id, target, target=pulled.target)
    pushed = push(store, target, access=access)
    assert pushed.target.digest == make.digest(image.manifest)


def test_neighbours_are_mounted(registry, store, local, reference, access) -> None:
    push_local(store, local, reference, access)
    other = Reference.parse(f"{registry.host}/other:1")
    store.images.tag(store.images.find(str(reference)).id, other)
    registry.seen.clear()
    events = []
    push(store, other, access=access, on_event=events.append)
    done = [event for event in events if isinstance(event, BlobDone)]
    assert {(event.outcome, event.source) for event in done} == {(Outcome.MOUNTED, "mine")}
    at_registry(registry, other)


def test_a_mount_that_is_refused(registry, store, local, reference, access, faults) -> None:
    push_local(store, local, reference, access)
    other = Reference.parse(f"{registry.host}/other:1")
    store.images.tag(store.images.find(str(reference)).id, other)
    refused = faults.status(403), faults.status(405)
    registry.break_("/v2/other/blobs/uploads/?mount", *refused, method="POST")
    push(store, other, access=access)
    at_registry(registry, other)


@pytest.mark.parametrize("algorithm", ["none", "zstd", "gzip"])
def test_compressions(algorithm, registry, store, local, reference, access) -> None:
    push_local(store, local, reference, access, compression=Compression.parse(algorithm))
    digest = registry.tags["mine", "1"]
    manifest = json.loads(registry.documents["mine", digest][1])
    suffix = "" if algorithm == "none" else f"+{algorithm}"
    kinds = {layer["mediaType"] for layer in manifest["layers"]}
    assert kinds == {f"application/vnd.oci.image.layer.v1.tar{suffix}"}


def test_a_tag_that_cannot_be_changed_but_is_right(
    registry, store, local, reference, access, faults
) -> None:
    push_local(store, local, reference, access)
    registry.break_("/v2/mine/manifests/1", faults.status(400), method="PUT")
    push(store, reference, access=access)
    registry.break_("/v2/mine/manifests/1", faults.status(400), method="PUT")
    other = ImageConfig("amd64", "linux", author="other", diff_ids=local.diff_ids)
    store.images.add(other, references=[reference])
    with pytest.raises(BadStatus):
        push(store, reference, access=access)


# --- faults that pass


def upload(kind: str, count: int):
    """Take `count` bytes of an upload, keep them, and end the connection."""

    def fault(page) -> None:
        data = page.rfile.read(count)
        number = page.path.partition("?")[0].rpartition("/")[2]
        page.server.uploads[number] += data
        page.reset() if kind == "reset" else page.connection.close()
        page.close_connection = True

    return fault


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_a_lost_upload_goes_on(count, registry, store, make, reference, access) -> None:
    tar = make.tar({"random": bytes(range(256)) * 4000})
    config = ImageConfig("amd64", "linux", diff_ids=(store.layers.unpack([tar]),))
    registry.break_("/v2/mine/blobs/uploads/0", upload("reset", count), method="PUT")
    events = []
    push_local(
        store,
        config,
        reference,
        access,
        compression=Compression.parse("none"),
        on_event=events.append,
    )
    assert at_registry(registry, reference)[1] == [tar]
    assert [e for e in events if isinstance(e, Retrying)]
    patched = [h["Content-Range"] for verb, _, h in registry.seen if verb == "PATCH"]
    assert patched == ([f"{count}-{len(tar) - 1}"] if count > 1 else [])


@pytest.mark.parametrize("code", [429, 500, 503])
@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "manifest"])
def test_busy(code, method, registry, store, local, reference, access, faults) -> None:
    twice = faults.status(code), faults.status(code)
    if method == "manifest":
        registry.break_("/v2/mine/manifests/1", *twice, method="PUT")
    else:
        # A new attempt is a new upload, and uploads go side by side: two refusals in all.
        for number in range(2):
            registry.break_(f"/v2/mine/blobs/uploads/{number}", twice[number], method=method)
        registry.break_("/v2/mine/blobs/uploads/", *twice, method=method)
    push_local(store, local, reference, access)
    at_registry(registry, reference)


def test_an_upload_that_is_forgotten(registry, store, local, reference, access, faults) -> None:
    registry.break_("/v2/mine/blobs/uploads/0", faults.status(404), method="PUT")
    push_local(store, local, reference, access)
    at_registry(registry, reference)


# --- faults that last


def test_nobody_listens(store, local, access) -> None:
    with pytest.raises(Unreachable, match=r"^push 127.0.0.1:1/x:1: .*connection refused"):
        push_local(store, local, Reference.parse("127.0.0.1:1/x:1"), access)


def test_no_permission(registry, store, local, reference, access) -> None:
    registry.basic = ("user", "secret")
    with pytest.raises(Unauthorized, match="authentication required"):
        push_local(store, local, reference, access)


def test_too_busy_for_too_long(registry, store, local, reference, access, faults) -> None:
    for number in range(40):
        registry.break_(f"/v2/mine/blobs/uploads/{number}", *[faults.status(429)] * 9)
    with pytest.raises(RateLimited):
        push_local(store, local, reference, access)
    assert ("mine", "1") not in registry.tags


def test_an_image_that_is_not_here(store, access) -> None:
    with pytest.raises(NotFound):
        push(store, Reference.parse("127.0.0.1:1/x:1"), access=access)


def test_a_digest_is_no_target(store, local, access) -> None:
    with pytest.raises(RegistryError, match="a digest cannot be pushed to"):
        push(store, Reference.parse(f"127.0.0.1:1/x@sha256:{'0' * 64}"), access=access)


def test_a_registry_that_stores_something_else(
    registry, store, local, reference, access, faults
) -> None:
    other = f"sha256:{'0' * 64}"
    wrong = faults.sends(b"", 201, Docker_Content_Digest=other)
    registry.break_("/v2/mine/manifests/1", wrong, method="PUT")
    with pytest.raises(DigestMismatch):
        push_local(store, local, reference, access)


def test_a_damaged_layer_is_never_sent(registry, store, local, reference, access) -> None:
    diff_id: DiffID = local.diff_ids[1]
    Path(store.layers.path(diff_id), "fs", "file1").write_bytes(b"other" * 140_000)
    with pytest.raises(Corrupt, match=r"^push "):
        push_local(store, local, reference, access)
    assert ("mine", "1") not in registry.tags


def test_a_layer_that_is_lost(registry, store: Store, local, reference, access) -> None:
    store.images.add(local, references=[reference])
    store.layers.remove(local.diff_ids[0])
    with pytest.raises(NotFound, match=r"^push .* layer sha256:"):
        push(store, reference, access=access)


def test_credentials_do_not_follow_an_upload(
    registry, elsewhere, store, local, reference, access_as
) -> None:
    registry.basic = ("user", "secret")
    target = f"{elsewhere.address}/v2/mine/blobs/uploads/x"

    def away(page) -> None:
        page.rfile.read(int(page.headers.get("Content-Length") or 0))
        page.answer(202, Location=target)

    registry.break_("/v2/mine/blobs/uploads/", *[away] * 9, method="POST")
    elsewhere.uploads["x"] = b""
    with pytest.raises(RegistryError):  # the blobs are at the wrong registry in the end
        push_local(store, local, reference, access_as(username="user", password="secret"))
    assert elsewhere.seen
    assert all("Authorization" not in headers for _, _, headers in elsewhere.seen)
