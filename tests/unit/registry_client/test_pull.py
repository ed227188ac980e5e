"""Pulls from a registry that behaves, and from one that does not."""

import gzip
import json
import tarfile
import zlib
from pathlib import Path

import pytest
import zstandard

from registry_client.errors import (
    BadManifest,
    BadStatus,
    DigestMismatch,
    NoSuchPlatform,
    NotFound,
    RateLimited,
    RegistryError,
    TooLarge,
    Unauthorized,
    Unreachable,
)
from registry_client.events import BlobDone, BlobFound, BlobMoved, Outcome, Retrying
from registry_client.pull import pull
from store import check
from store.errors import BadArchive, Corrupt, StoreError
from store.oci import Platform
from store.reference import Reference

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


@pytest.fixture
def reference(registry) -> Reference:
    return Reference.parse(f"{registry.host}/app:1")


def layer_path(image, number: int = 0) -> str:
    return f"/v2/app/blobs/{FakeDigest.of(image.layers[number])}"


class FakeDigest:
    @staticmethod
    def of(data: bytes) -> str:
        import hashlib

        return f"sha256:{hashlib.sha256(data).hexdigest()}"


def assert_whole(store, image, pulled) -> None:
    """Check the image, and every digest in the store, by their bytes."""
    assert pulled.image.id == FakeDigest.of(image.config)
    for diff_id, tar in zip(pulled.image.config.diff_ids, image.tars, strict=True):
        assert b"".join(store.layers.stream_tar(diff_id)) == tar
    assert store.content.get(pulled.image.manifest.digest) == image.manifest
    assert [str(problem) for problem in check.check(store, deep=True)] == []


# --- what comes


def test_an_image(registry, store, image, access, reference) -> None:
    digest = registry.add("app", "1", image)
    pulled = pull(store, reference, access=access)
    assert_whole(store, image, pulled)
    assert pulled.is_new
    assert pulled.target.digest == digest
    assert store.images.find(f"{registry.host}/app:1").id == pulled.image.id
    assert store.images.find(f"{registry.host}/app@{digest}").id == pulled.image.id
    for layer in image.layers:
        assert store.content.get(FakeDigest.of(layer)) == layer


def test_again_fetches_no_blob(registry, store, image, access, reference) -> None:
    registry.add("app", "1", image)
    pull(store, reference, access=access)
    registry.seen.clear()
    events = []
    again = pull(store, reference, access=access, on_event=events.append)
    assert not again.is_new
    assert registry.asked("GET", "/blobs/") == []
    assert {e.outcome for e in events if isinstance(e, BlobDone)} == {Outcome.EXISTS}


def test_layers_that_are_here_are_not_fetched(
    registry, store, image, access, reference, make
) -> None:
    registry.add("app", "1", image)
    pull(store, reference, access=access)
    more = make.image([*image.tars, make.tar({"third": b"3"})], compress=image.compress)
    registry.add("app", "2", more)
    registry.seen.clear()
    pulled = pull(store, reference.with_tag("2"), access=access)
    assert_whole(store, more, pulled)
    assert sorted(registry.asked("GET", "/blobs/")) == sorted(
        [f"/v2/app/blobs/{FakeDigest.of(more.config)}", layer_path(more, 2)]
    )


def test_a_moved_tag(registry, store, image, access, reference, make) -> None:
    registry.add("app", "1", image)
    first = pull(store, reference, access=access)
    other = make.image([make.tar({"other": b"o"})])
    registry.add("app", "1", other)
    second = pull(store, reference, access=access)
    assert second.is_new
    assert store.images.find(str(reference)).id == second.image.id != first.image.id


def test_by_digest(registry, store, image, access, reference) -> None:
    digest = registry.add("app", "1", image)
    pinned = Reference.parse(f"{registry.host}/app@{digest}")
    pulled = pull(store, pinned, access=access)
    assert [str(r) for r in pulled.image.references] == [str(pinned)]


@pytest.mark.parametrize(
    ("compress", "layer_type"),
    [
        (lambda data: data, OCI_LAYER),
        (lambda data: zstandard.compress(data), f"{OCI_LAYER}+zstd"),
        (lambda data: gzip.compress(data[:9000]) + gzip.compress(data[9000:]), f"{OCI_LAYER}+gzip"),
        (lambda data: gzip.compress(data), f"{OCI_LAYER}+zstd"),  # the bytes count, not the name
    ],
)
def test_compressions(
    compress, layer_type, registry, store, image, access, reference, make
) -> None:
    other = make.image(image.tars, compress=compress, layer_type=layer_type)
    registry.add("app", "1", other)
    assert_whole(store, other, pull(store, reference, access=access))


def test_docker_schema_2(registry, store, image, access, reference, make) -> None:
    other = make.image(
        image.tars,
        layer_type=DOCKER_LAYER,
        manifest_type=DOCKER_MANIFEST,
        config_type=DOCKER_CONFIG,
    )
    registry.add("app", "1", other)
    assert_whole(store, other, pull(store, reference, access=access))


def test_the_same_layer_twice(registry, store, image, access, reference, make) -> None:
    other = make.image([image.tars[0], image.tars[1], image.tars[0]])
    registry.add("app", "1", other)
    assert_whole(store, other, pull(store, reference, access=access))


def test_an_image_without_layers(registry, store, access, reference, make) -> None:
    empty = make.image([])
    registry.add("app", "1", empty)
    assert_whole(store, empty, pull(store, reference, access=access))


def test_events(registry, store, image, access, reference) -> None:
    registry.add("app", "1", image)
    events = []
    pull(store, reference, access=access, on_event=events.append)
    sizes = {FakeDigest.of(layer): len(layer) for layer in image.layers}
    found = {e.digest: e.size_bytes for e in events if isinstance(e, BlobFound)}
    moved = {e.digest: e.done_bytes for e in events if isinstance(e, BlobMoved)}
    done = {e.digest: e.outcome for e in events if isinstance(e, BlobDone)}
    assert found == moved == sizes
    assert done == dict.fromkeys(sizes, Outcome.PULLED)


# --- platforms


def test_an_index(registry, store, image, access, reference, make) -> None:
    arm = make.image([make.tar({"arm": b"arm"})], architecture="arm64", variant="v8")
    index = make.index(arm, image)
    for one in (arm, image):
        registry.add("app", "part", one)
    digest = registry.add_document("app", "1", index, "application/vnd.oci.image.index.v1+json")
    pulled = pull(store, reference, platform=Platform("linux", "amd64"), access=access)
    assert_whole(store, image, pulled)
    assert pulled.target.digest == digest
    other = pull(store, reference, platform=Platform("linux", "arm64"), access=access)
    assert_whole(store, arm, other)
    for architecture, found in (("amd64", pulled), ("arm64", other)):
        platform = Platform("linux", architecture)
        assert store.images.find(str(reference), platform=platform).id == found.image.id


def test_a_platform_that_is_not_there(registry, store, image, access, reference, make) -> None:
    registry.add("app", "part", image)
    index = make.index(image)
    registry.add_document("app", "1", index, "application/vnd.oci.image.index.v1+json")
    with pytest.raises(NoSuchPlatform) as caught:
        pull(store, reference, platform=Platform("linux", "s390x"), access=access)
    assert "linux/s390x" in str(caught.value)
    assert caught.value.hint == "there is: linux/amd64"


def test_an_image_for_another_platform(registry, store, access, reference, make) -> None:
    arm = make.image([make.tar({"arm": b"arm"})], architecture="arm64")
    registry.add("app", "1", arm)
    with pytest.raises(NoSuchPlatform):
        pull(store, reference, platform=Platform("linux", "amd64"), access=access)
    # Nobody asked for a platform: it is the only one there.
    assert_whole(store, arm, pull(store, reference, access=access))


# --- faults that pass


@pytest.mark.parametrize("count", [0, 1, 300_000])
@pytest.mark.parametrize("kind", ["short", "reset_after"])
def test_a_lost_connection_goes_on_where_it_ended(
    kind, count, registry, store, image, access, reference, faults
) -> None:
    registry.add("app", "1", image)
    fault = getattr(faults, kind)(image.layers[0], count)
    registry.break_(layer_path(image), fault, method="GET")
    events = []
    assert_whole(store, image, pull(store, reference, access=access, on_event=events.append))
    assert [e for e in events if isinstance(e, Retrying)]
    ranges = [h.get("Range") for verb, path, h in registry.seen if path == layer_path(image)]
    assert ranges[0] is None
    assert len(ranges) == 2
    # What came of the last piece is lost; a reset may take more with it that was on its way.
    if kind == "short":
        assert ranges[1] == ("bytes=262144-" if count > 262144 else None)


def test_a_server_without_ranges(registry, store, image, access, reference, faults) -> None:
    registry.add("app", "1", image)
    layer = image.layers[0]
    whole = faults.sends(layer)
    registry.break_(layer_path(image), faults.short(layer, 400_000), whole, method="GET")
    assert_whole(store, image, pull(store, reference, access=access))


def test_a_server_that_refuses_ranges(registry, store, image, access, reference, faults) -> None:
    registry.add("app", "1", image)
    layer = image.layers[0]
    steps = faults.short(layer, 400_000), faults.status(416)
    registry.break_(layer_path(image), *steps, method="GET")
    assert_whole(store, image, pull(store, reference, access=access))


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("place", ["/v2/", "/v2/app/manifests/1", "blob"])
def test_busy(code, place, registry, store, image, access, reference, faults) -> None:
    registry.add("app", "1", image)
    path = layer_path(image) if place == "blob" else place
    registry.break_(path, faults.status(code), faults.status(code))
    assert_whole(store, image, pull(store, reference, access=access))


def test_many_losses_with_progress_between(
    registry, store, image, access, reference, make, faults
) -> None:
    tar = make.tar({"file": b"\0" * (12 << 20)})
    big = make.image([tar], compress=lambda data: gzip.compress(data, 0, mtime=0))
    registry.add("app", "1", big)
    layer = big.layers[0]

    def part(page) -> None:
        start = int(page.headers.get("Range", "bytes=0-")[6:-1])
        headers = {"Content_Range": f"bytes {start}-{len(layer) - 1}/{len(layer)}"}
        page.answer(
            206 if start else 200,
            layer[start : start + (2 << 20)],
            Content_Length=len(layer) - start,
            **(headers if start else {}),
        )
        page.close_connection = True

    registry.break_(layer_path(big), *[part] * 5, method="GET")
    assert_whole(store, big, pull(store, reference, access=access))


# --- faults that last: one clear error, and the store as it was


def assert_refused(store, reference, access, kinds, text: str, **more: object) -> Exception:
    root = Path(store.root)
    before = contents(root)
    with pytest.raises(kinds) as caught:
        pull(store, reference, access=access, **more)
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"pull {reference.familiar()}: ")
    assert "\n" not in str(caught.value)
    assert contents(root) == before
    assert [str(problem) for problem in check.check(store, deep=True)] == []
    return caught.value


def contents(root: Path) -> dict[str, object]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
        if not str(path.relative_to(root)).startswith("locks")
    }


def test_nobody_listens(store, access) -> None:
    reference = Reference.parse("127.0.0.1:1/app:1")
    error = assert_refused(store, reference, access, Unreachable, "connection refused")
    assert "running" in str(error.hint)


def test_a_host_that_does_not_exist(store, access) -> None:
    reference = Reference.parse("no-such-host.invalid/app:1")
    assert_refused(store, reference, access, Unreachable, "name")


def test_an_unknown_tag(registry, store, image, access, reference) -> None:
    registry.add("app", "2", image)
    assert_refused(store, reference, access, NotFound, "manifest unknown")


def test_no_permission(registry, store, image, access, reference) -> None:
    registry.add("app", "1", image)
    registry.basic = ("user", "secret")
    error = assert_refused(store, reference, access, Unauthorized, "authentication required")
    assert f"pybuild login {registry.host}" in str(error.hint)


def test_too_many_requests_for_too_long(registry, store, image, access, reference, faults) -> None:
    registry.add("app", "1", image)
    registry.break_("/v2/app/manifests/1", *[faults.status(429, Retry_After="0")] * 9)
    assert_refused(store, reference, access, RateLimited, "429")
    assert len(registry.asked("GET", "/manifests/")) == 4


def test_always_broken(registry, store, image, access, reference, faults) -> None:
    registry.add("app", "1", image)
    registry.break_(layer_path(image), *[faults.short(image.layers[0], 100)] * 99, method="GET")
    assert_refused(store, reference, access, RegistryError, "layer sha256:")


@pytest.mark.parametrize("what", ["layer", "config"])
def test_other_bytes(what, registry, store, image, access, reference) -> None:
    registry.add("app", "1", image)
    data = image.layers[0] if what == "layer" else image.config
    digest = FakeDigest.of(data)
    registry.blobs["app", digest] = data[:-40] + bytes(40)
    assert_refused(store, reference, access, DigestMismatch, digest)


def test_another_manifest(registry, store, image, access, reference) -> None:
    digest = registry.add("app", "1", image)
    registry.documents["app", digest] = (image.manifest_type, image.manifest + b" ")
    pinned = Reference.parse(f"{registry.host}/app@{digest}")
    for one in (pinned, reference):  # the tag's answer names the digest in a header
        assert_refused(store, one, access, DigestMismatch, digest)


@pytest.mark.parametrize("by", [-10, 10])
def test_a_manifest_that_lies_about_a_size(
    by, registry, store, image, access, reference, make
) -> None:
    entries = [make.image.descriptor(layer, image.layer_type) for layer in image.layers]
    entries[0]["size"] += by
    liar = make.image(image.tars, compress=image.compress, changes={"layers": entries})
    registry.add("app", "1", liar)
    assert_refused(store, reference, access, BadManifest, "the manifest says")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_longer_than_the_manifest_says(
    chunked, registry, store, image, access, reference
) -> None:
    registry.add("app", "1", image)
    layer = image.layers[0] + b"more"

    def endless(page) -> None:
        page.close_connection = True
        if chunked:
            page.answer(200, b"", Content_Length=None, Transfer_Encoding="chunked")
            page.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(layer), layer))
        else:
            page.answer(200, layer, Content_Length=None)

    registry.break_(layer_path(image), *[endless] * 9, method="GET")
    assert_refused(store, reference, access, TooLarge, "the manifest says")


def test_the_wrong_diff_id(registry, store, image, access, reference, make) -> None:
    liar = make.image(image.tars, compress=image.compress)
    config = json.loads(liar.config)
    config["rootfs"]["diff_ids"].reverse()
    liar.config = json.dumps(config).encode()
    manifest = json.loads(liar.manifest)
    manifest["config"] = make.image.descriptor(liar.config, liar.config_type)
    liar.manifest = json.dumps(manifest).encode()
    registry.add("app", "1", liar)
    assert_refused(store, reference, access, Corrupt, "digest")


def test_too_few_diff_ids(registry, store, image, access, reference, make) -> None:
    liar = make.image(
        image.tars,
        changes={"layers": [make.image.descriptor(image.layers[0], image.layer_type)]},
    )
    registry.add("app", "1", liar)
    assert_refused(store, reference, access, BadManifest, "1 layers")


@pytest.mark.parametrize(
    ("data", "media_type", "text"),
    [
        (b"{", "application/vnd.oci.image.manifest.v1+json", "JSON"),
        (b"[]", "application/vnd.oci.image.manifest.v1+json", "JSON object"),
        (b"{}", "application/vnd.oci.image.manifest.v1+json", "schema"),
        (b'{"schemaVersion":2}', "text/html", "text/html"),
        (b'{"schemaVersion":1,"name":"app"}', SCHEMA1, "schema 1"),
        (b'{"schemaVersion":1,"name":"app"}', "application/json", "schema 1"),
        (
            b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}',
            "application/vnd.oci.image.manifest.v1+json",
            "the manifest",
        ),
        (
            b'{"schemaVersion":2,"manifests":[],"layers":[]}',
            "application/vnd.oci.image.index.v1+json",
            "both",
        ),
        (
            b'{"schemaVersion":2,"manifests":[]}',
            "application/vnd.oci.image.index.v1+json",
            "no image for platform",
        ),
    ],
)
def test_documents_that_are_none(
    data, media_type, text, registry, store, access, reference
) -> None:
    registry.add_document("app", "1", data, media_type)
    assert_refused(store, reference, access, (BadManifest, NoSuchPlatform), text)


def test_a_chart_is_no_image(registry, store, access, reference, make) -> None:
    chart = make.image([b"x"], config_type="application/vnd.cncf.helm.config.v1+json")
    registry.add("app", "1", chart)
    assert_refused(store, reference, access, BadManifest, "no container image")


def test_a_huge_manifest(registry, store, access, reference) -> None:
    data = b'{"schemaVersion":2,"x":"' + b"x" * (9 << 20) + b'"}'
    registry.add_document("app", "1", data, "application/vnd.oci.image.manifest.v1+json")
    assert_refused(store, reference, access, TooLarge, "limit")


def test_an_index_in_itself(registry, store, access, reference, make) -> None:
    inner = b'{"schemaVersion":2,"manifests":[]}'
    kind = "application/vnd.oci.image.index.v1+json"
    for _ in range(9):
        registry.add_document("app", "1", inner, kind)
        entry = make.image.descriptor(inner, kind)
        entry["platform"] = {"os": "linux", "architecture": "amd64"}
        inner = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    registry.add_document("app", "1", inner, kind)
    platform = Platform("linux", "amd64")
    assert_refused(store, reference, access, BadManifest, "deep", platform=platform)


# --- hostile layers


def member(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in more.items():
        setattr(made, field, value)
    return made


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside")],
        [member("a/../../outside")],
        [member("/outside")],
        [member("link", tarfile.LNKTYPE, linkname="../../outside")],
        [member("link", tarfile.LNKTYPE, linkname="/etc/passwd")],
        [member("zero", tarfile.CHRTYPE, devmajor=0, devminor=0)],
        [member(".wh..")],
        [member(".wh...")],
        [member(".wh.")],
        [member("a"), member("a/b")],
    ],
    ids=lambda members: "-".join(m.name for m in members),
)
def test_hostile_names(members, registry, store, access, reference, make, tmp_path) -> None:
    tar = make.tar({"good": b"good"} | {str(n): m for n, m in enumerate(members)})
    bad = make.image([make.tar({"fine": b"fine"}), tar])
    registry.add("app", "1", bad)
    assert_refused(store, reference, access, BadArchive, "layer sha256:")
    assert not (tmp_path / "outside").exists()


def test_links_that_lead_out_stay_inside(
    registry, store, access, reference, make, tmp_path
) -> None:
    """A symlink may point anywhere; what is written through it stays in the layer."""
    outside = tmp_path / "outside"
    outside.mkdir()
    tar = make.tar(
        {
            "link": member("out", tarfile.SYMTYPE, linkname=str(outside)),
            "up": member("up", tarfile.SYMTYPE, linkname="../../../../../../.."),
            "out/file": b"through a link",
            "up/file2": b"through another",
        }
    )
    bad = make.image([tar])
    registry.add("app", "1", bad)
    assert_whole(store, bad, pull(store, reference, access=access))
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-9],
        lambda data: data + b"garbage",
        lambda data: data[:2000] + b"\xff" * 20 + data[2020:],
    ],
)
def test_damaged_compression(spoil, registry, store, image, access, reference, make) -> None:
    bad = make.image(image.tars, compress=lambda data: spoil(gzip.compress(data)))
    registry.add("app", "1", bad)
    assert_refused(store, reference, access, (BadArchive, Corrupt), "layer sha256:")


def test_a_tar_that_is_none(registry, store, access, reference, make) -> None:
    bad = make.image([b"this is no tar at all" * 100])
    registry.add("app", "1", bad)
    assert_refused(store, reference, access, BadArchive, "layer sha256:")


def test_a_gzip_bomb(registry, store, access, reference, make, monkeypatch) -> None:
    monkeypatch.setattr("store.unpacklimit.BOMB_BYTES", 1 << 20)
    tar = make.tar({"zeros": b"\0" * (8 << 20)})
    bomb = make.image([tar], compress=lambda data: zlib_gzip(data))
    registry.add("app", "1", bomb)
    assert_refused(store, reference, access, BadArchive, "bomb")


def zlib_gzip(data: bytes) -> bytes:
    out = zlib.compressobj(9, wbits=31)
    return out.compress(data) + out.flush()


def test_a_layer_that_leans_on_nothing(registry, store, access, reference, make) -> None:
    """A hard link to a file of a lower layer that has none."""
    tar = make.tar({"link": member("link", tarfile.LNKTYPE, linkname="nowhere")})
    registry.add("app", "1", make.image([make.tar({"a": b"a"}), tar]))
    assert_refused(store, reference, access, BadArchive, "hard link")


def test_what_was_here_before_stays(registry, store, image, access, reference, make) -> None:
    registry.add("app", "1", image)
    pull(store, reference, access=access)
    bad = make.image([*image.tars, b"no tar" * 200], compress=image.compress)
    registry.add("app", "2", bad)
    assert_refused(store, reference.with_tag("2"), access, BadArchive, "layer")
    assert_whole(store, image, pull(store, reference, access=access))


# --- after a kill


def test_whole_layers_of_a_broken_pull_are_used(registry, store, image, access, reference) -> None:
    registry.add("app", "1", image)
    pull(store, reference, access=access)
    # As a kill leaves it: a whole blob without its layer, a whole layer without its image.
    image_id = FakeDigest.of(image.config)
    diff_ids = store.images.get(image_id).config.diff_ids
    for name in store.images.references(image_id):
        store.images.untag(name)
    Path(store.root, "images", "ids", f"{image_id[7:]}.json").unlink()
    store.layers.remove(diff_ids[0])
    registry.seen.clear()
    assert_whole(store, image, pull(store, reference, access=access))
    assert [path for path in registry.asked("GET", "/blobs/") if path == layer_path(image)] == []


# --- redirects


def test_a_redirected_blob_gets_no_credentials(
    registry, elsewhere, store, image, access_as, reference, faults
) -> None:
    registry.add("app", "1", image)
    registry.basic = ("user", "secret")
    elsewhere.add("app", "1", image)
    target = f"{elsewhere.address}{layer_path(image)}?signature=s3cr3t"
    registry.break_(layer_path(image), faults.redirects(target), method="GET")
    access = access_as(username="user", password="secret")
    assert_whole(store, image, pull(store, reference, access=access))
    (headers,) = [h for _, path, h in elsewhere.seen if layer_path(image) in path]
    assert "Authorization" not in headers
    assert all("Authorization" in h for _, path, h in registry.seen if path != "/v2/")


def test_a_signed_address_that_is_out_of_date(
    registry, elsewhere, store, image, access, reference, faults
) -> None:
    registry.add("app", "1", image)
    target = f"{elsewhere.address}/gone?signature=s3cr3t"
    registry.break_(layer_path(image), faults.redirects(target), method="GET")
    elsewhere.break_("/gone", faults.status(403))
    assert_whole(store, image, pull(store, reference, access=access))


def test_a_signature_is_never_shown(registry, store, image, access, reference, faults) -> None:
    import traceback

    registry.add("app", "1", image)
    gone = faults.redirects("http://127.0.0.1:1/x?signature=s3cr3t")
    registry.break_(layer_path(image), *[gone] * 9, method="GET")
    error = assert_refused(store, reference, access, Unreachable, "connection refused")
    assert "s3cr3t" not in "".join(traceback.format_exception(error))


def test_a_refusal_in_odd_words(registry, store, access, reference) -> None:
    def odd(page) -> None:
        page.close_connection = True
        page.refuse(400, "X", "Red \x1b[31m alert\n" + "x" * 10_000)

    registry.break_("/v2/app/manifests/1", odd)
    error = assert_refused(store, reference, access, BadStatus, "red ?[31m alert")
    assert len(str(error)) < 500


def test_errors_of_the_store_name_the_pull(registry, store, image, access, reference) -> None:
    registry.add("app", "1", image)
    Path(store.root, "layers", "sha256").rmdir()
    with pytest.raises(StoreError, match=r"^pull 127.0.0.1"):
        pull(store, reference, access=access)
