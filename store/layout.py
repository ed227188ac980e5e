"""The files of an image archive: OCI layout, and docker's beside it.

Pure: from images and their manifests to names and contents. Writes nothing.
Source: image-spec image-layout.md; moby `image/tarexport/save.go`.
"""

from collections.abc import Iterable, Mapping, Sequence

from store.digest import DiffID, Digest, hex_of
from store.document import encode
from store.images import Image
from store.oci import Descriptor, Index, Manifest
from store.reference import Reference
from values.classes import dataclass, field, replace

CONTAINERD_NAME = "io.containerd.image.name"
REFERENCE_NAME = "org.opencontainers.image.ref.name"

LAYOUT_FILE, INDEX_FILE = "oci-layout", "index.json"
DOCKER_FILE, REPOSITORIES_FILE = "manifest.json", "repositories"


@dataclass(frozen=True, slots=True)
class Exported:
    """One image on its way out: its manifest, and the references it is written under.

    root: what the references name, an index or the manifest. more: what goes with an index: its
    documents, and the blobs of its other images. unstored: documents and layers (None) that are
    no blobs of the store: they are written as they are made, layers as plain tars.
    """

    image: Image
    descriptor: Descriptor
    manifest: Manifest
    references: tuple[Reference, ...]
    root: Descriptor
    more: tuple[Descriptor, ...] = ()
    unstored: Mapping[Digest, bytes | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LayerTar:
    """A file whose content is the plain tar of a layer of the store."""

    diff_id: DiffID
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Blob:
    """A file whose content is a blob of the store."""

    digest: Digest
    size_bytes: int


Body = bytes | Blob | LayerTar
Files = Mapping[str, Body]


def blob_path(digest: Digest) -> str:
    """Return where a layout holds the blob `digest`."""
    return f"blobs/sha256/{hex_of(digest)}"


def oci_files(images: Sequence[Exported]) -> Files:
    """Return the files of an OCI layout that holds `images`."""
    files: dict[str, Body] = {
        LAYOUT_FILE: encode({"imageLayoutVersion": "1.0.0"}),
        INDEX_FILE: Index(tuple(_index_entries(images))).to_json(),
    }
    for exported in images:
        manifest = exported.manifest
        blobs = (exported.descriptor, manifest.config, *manifest.layers, *exported.more)
        files.update((blob_path(blob.digest), _body(exported, blob)) for blob in blobs)
    return files


def _body(exported: Exported, blob: Descriptor) -> Body:
    if blob.digest not in exported.unstored:
        return Blob(blob.digest, blob.size_bytes)
    document = exported.unstored[blob.digest]
    return LayerTar(DiffID(blob.digest), blob.size_bytes) if document is None else document


def docker_files(images: Sequence[Exported]) -> Files:
    """Return the files of `docker save`, as docker has written them since 25.0.

    An OCI layout, with manifest.json for every docker since 1.10 and repositories for older tools.
    """
    files = dict(oci_files(images))
    files[DOCKER_FILE] = encode([_docker_entry(exported) for exported in _by_image(images)])
    repositories = _repositories(images)
    if repositories:
        files[REPOSITORIES_FILE] = encode(repositories)
    return files


def _index_entries(images: Sequence[Exported]) -> Iterable[Descriptor]:
    for exported in images:
        entry = exported.root
        if entry.digest == exported.descriptor.digest:
            entry = replace(entry, platform=exported.image.config.platform)
        if not exported.references:
            yield entry
        for reference in exported.references:
            # Both, as BuildKit and containerd write: the first is complete, the second is what
            # umoci and skopeo find an image by in a layout.
            names = {CONTAINERD_NAME: str(reference)}
            if reference.tag:
                names[REFERENCE_NAME] = reference.tag
            yield replace(entry, annotations=dict(entry.annotations or {}) | names)


def _by_image(images: Iterable[Exported]) -> list[Exported]:
    """Return each image once: to docker it is one, whatever its names lead to besides."""
    found: dict[Digest, Exported] = {}
    for exported in images:
        known = found.get(exported.image.id)
        if known is not None:
            references = sorted({*known.references, *exported.references}, key=str)
            exported = replace(known, references=tuple(references))
        found[exported.image.id] = exported
    return list(found.values())


def _docker_entry(exported: Exported) -> dict[str, object]:
    manifest, config = exported.manifest, exported.image.config
    tags = [reference.familiar() for reference in exported.references if reference.tag]
    return {
        "Config": blob_path(manifest.config.digest),
        "RepoTags": tags or None,
        "Layers": [blob_path(layer.digest) for layer in manifest.layers],
        "LayerSources": {
            diff_id: Descriptor(layer.media_type, layer.digest, layer.size_bytes).to_fields()
            for diff_id, layer in sorted(zip(config.diff_ids, manifest.layers, strict=True))
        },
    }


def _repositories(images: Sequence[Exported]) -> dict[str, dict[str, str]]:
    """Return name → tag → top layer, sorted, of the images that have layers and tags."""
    found: dict[str, dict[str, str]] = {}
    for exported in images:
        for reference in exported.references:
            if reference.tag and exported.manifest.layers:
                top = hex_of(exported.manifest.layers[-1].digest)
                found.setdefault(reference.familiar_name, {})[reference.tag] = top
    return {name: dict(sorted(tags.items())) for name, tags in sorted(found.items())}
