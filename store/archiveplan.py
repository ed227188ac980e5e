"""What an image archive holds: from its documents to the images that `load` would store.

Reads and checks the documents, touches no layer and writes nothing. Understands an OCI layout
(skopeo, podman, buildah, umoci, BuildKit, docker since 25) and docker's own archive since 1.10
(docker, podman, skopeo, kaniko, bazel).
Source: image-spec image-layout.md; moby `image/tarexport/load.go`.
"""

import json
import posixpath
import re
from collections.abc import Iterator

from store import mediatypes
from store.archivesource import Archive
from store.digest import DiffID, Digest, digest_of, is_digest
from store.document import Fields, decode
from store.errors import BadArchive, InvalidReference
from store.layout import (
    CONTAINERD_NAME,
    DOCKER_FILE,
    INDEX_FILE,
    LAYOUT_FILE,
    REFERENCE_NAME,
    REPOSITORIES_FILE,
)
from store.oci import Descriptor, ImageConfig, Index, Manifest, Platform
from store.platforms import fits
from store.reference import Reference
from values.classes import dataclass, field, replace

_HEX_NAME = re.compile(r"([0-9a-f]{64})(?:\.json)?\Z")
_DEEPEST_INDEX = 4
_ATTESTATION = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """One layer of an image in the archive.

    name: of its file. digest: that the file's bytes must have, None where the archive says none.
    """

    diff_id: DiffID
    name: str
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image in the archive.

    manifest: where the archive has one worth keeping; its blobs are then kept too.
    """

    config: bytes
    layers: tuple[PlannedLayer, ...]
    manifest: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """What a name in the archive leads to; without references it is an image without a name.

    image: the one of the platform wanted. others: those of other platforms that are there too.
    target: what the references point to; None for the image's own manifest or config.
    """

    image: PlannedImage
    references: tuple[Reference, ...] = ()
    others: tuple[PlannedImage, ...] = ()
    target: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that loading an archive would store.

    documents: manifests and indexes, as they are. blobs: further ones that documents name.
    """

    images: tuple[Named, ...]
    documents: tuple[bytes, ...] = ()
    blobs: tuple[Descriptor, ...] = ()


def plan(archive: Archive, platform: Platform) -> Plan:
    """Return what the archive holds.

    platform: which image of an index its name leads to, if there is one for it.
    Raises BadArchive.
    """
    if archive.has(INDEX_FILE) and archive.has(LAYOUT_FILE):
        found = _LayoutReader(archive, platform).read()
        if not archive.has(DOCKER_FILE) or all(map(_is_compressed, found.images)):
            return found
        # docker's layers are plain tars: nothing worth pushing again as it is.
    if archive.has(DOCKER_FILE):
        return _docker_plan(archive)
    if archive.has(REPOSITORIES_FILE):
        raise BadArchive("it was saved by a docker older than 1.10, which is not supported")
    raise BadArchive(
        f"it has neither {DOCKER_FILE} nor {INDEX_FILE}",
        hint="a tar of a root file system is taken by `pybuild import`",
    )


def only(planned: Plan, platform: Platform) -> Plan:
    """Return the plan without what is not for `platform`. Raises BadArchive when nothing is."""
    kept = [named for named in planned.images if fits(_platform_of(named.image), platform)]
    if not kept:
        there = sorted({str(_platform_of(named.image)) for named in planned.images})
        raise BadArchive(
            f"it has no image for platform {platform}", hint=f"there is: {', '.join(there)}"
        )
    return replace(planned, images=tuple(replace(named, others=()) for named in kept))


def _is_compressed(named: Named) -> bool:
    return named.image.manifest is not None


# -- OCI layout


@dataclass(slots=True)
class _LayoutReader:
    """Reads an OCI layout; collects the documents and blobs that have to be kept on its way."""

    archive: Archive
    platform: Platform
    documents: dict[Digest, bytes] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)

    def read(self) -> Plan:
        """Return what the layout holds. Raises BadArchive."""
        layout = decode(self.archive.read(LAYOUT_FILE, "the archive"), LAYOUT_FILE)
        version = layout.text("imageLayoutVersion")
        if not version.startswith("1."):
            raise BadArchive(f"{LAYOUT_FILE} has version {version!r}, 1.0.0 is known")
        index = Index.from_json(self.archive.read(INDEX_FILE, "the archive"))
        names: dict[Digest, list[Reference]] = {}
        tops: dict[Digest, Descriptor] = {}
        for descriptor in index.manifests:
            tops.setdefault(descriptor.digest, descriptor)
            names.setdefault(descriptor.digest, []).extend(_names(descriptor))
        found = [self._named(top, tuple(names[digest])) for digest, top in tops.items()]
        images = tuple(named for named in found if named is not None)
        if not images:
            raise BadArchive(f"{INDEX_FILE} names no image")
        return Plan(images, tuple(self.documents.values()), tuple(self.blobs.values()))

    def _named(self, top: Descriptor, references: tuple[Reference, ...]) -> Named | None:
        references = tuple(sorted(set(references), key=str))
        images = list(self._images(top, _DEEPEST_INDEX))
        if not images:
            return None
        wanted = next((i for i in images if fits(_platform_of(i), self.platform)), images[0])
        others = tuple(image for image in images if image is not wanted)
        target = None if wanted.manifest and wanted.manifest.digest == top.digest else _bare(top)
        return Named(wanted, references, others, target if wanted.manifest else None)

    def _images(self, descriptor: Descriptor, depth: int) -> Iterator[PlannedImage]:
        """Yield the images that a manifest or index leads to."""
        name = _blob_name(descriptor.digest)
        nested = depth < _DEEPEST_INDEX
        if nested and not self.archive.has(name):
            return  # an index may name platforms that the archive leaves out
        data = self.archive.read(name, INDEX_FILE)
        _check_digest(data, descriptor.digest, name)
        if _is_index(descriptor, data):
            if depth == 0:
                raise BadArchive("its indexes are nested too deeply")
            self.documents[descriptor.digest] = data
            for below in Index.from_json(data).manifests:
                yield from self._images(below, depth - 1)
            return
        manifest = Manifest.from_json(data)
        if nested and self._lacks_blobs(manifest):
            self._keep(descriptor, manifest, data)
        elif _is_image(descriptor, manifest):
            yield self._image(descriptor, manifest, data)
        else:
            self._keep(descriptor, manifest, data)

    def _image(self, descriptor: Descriptor, manifest: Manifest, data: bytes) -> PlannedImage:
        config_name = _blob_name(manifest.config.digest)
        config = self.archive.read(config_name, _blob_name(descriptor.digest))
        _check_digest(config, manifest.config.digest, config_name)
        diff_ids = ImageConfig.from_json(config).diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise BadArchive(
                f"manifest {descriptor.digest} has {len(manifest.layers)} layers,"
                f" its config {len(diff_ids)}"
            )
        layers = []
        for diff_id, layer in zip(diff_ids, manifest.layers, strict=True):
            name = _blob_name(layer.digest)
            _check_size(self.archive, name, layer, descriptor.digest)
            layers.append(PlannedLayer(diff_id, name, layer.digest))
        is_plain = not all(_is_compressed_type(layer.media_type) for layer in manifest.layers)
        if is_plain and self.archive.has(DOCKER_FILE):
            return PlannedImage(config, tuple(layers))
        self.documents[descriptor.digest] = data
        return PlannedImage(config, tuple(layers), _bare(descriptor))

    def _lacks_blobs(self, manifest: Manifest) -> bool:
        """Tell whether none of an image's layers came along, only the documents about it."""
        layers = [layer.digest for layer in manifest.layers if is_digest(layer.digest)]
        return bool(layers) and not any(self.archive.has(_blob_name(d)) for d in layers)

    def _keep(self, descriptor: Descriptor, manifest: Manifest, data: bytes) -> None:
        """Keep a manifest that is no image (an attestation) with those of its blobs there."""
        self.documents[descriptor.digest] = data
        for blob in (manifest.config, *manifest.layers):
            if is_digest(blob.digest) and self.archive.has(_blob_name(blob.digest)):
                self.blobs[blob.digest] = blob


def _names(descriptor: Descriptor) -> list[Reference]:
    """Return the reference that an entry of index.json carries, if it carries one.

    skopeo, umoci and BuildKit write a bare tag as the reference name; that names no repository.
    """
    annotations = descriptor.annotations or {}
    name = annotations.get(REFERENCE_NAME, "")
    if not re.search(r"[/:@]", name):
        name = ""
    name = annotations.get(CONTAINERD_NAME, "") or name
    try:
        reference = Reference.parse(name) if name else None
    except InvalidReference:
        return []  # any text may stand there by the spec
    if reference is None or (reference.digest and reference.digest != descriptor.digest):
        return []
    return [reference]


def _is_index(descriptor: Descriptor, data: bytes) -> bool:
    if descriptor.media_type in mediatypes.INDEXES:
        return True
    return not descriptor.media_type and b'"manifests"' in data


def _is_image(descriptor: Descriptor, manifest: Manifest) -> bool:
    """Tell an image from an attestation or another artifact, which look like one."""
    if _ATTESTATION in (descriptor.annotations or {}) or manifest.artifact_type:
        return False
    return manifest.config.media_type in mediatypes.CONFIGS


def _is_compressed_type(media_type: str) -> bool:
    return not mediatypes.is_layer(media_type) or not media_type.endswith(".tar")


def _platform_of(image: PlannedImage) -> Platform:
    return ImageConfig.from_json(image.config).platform


def _bare(descriptor: Descriptor) -> Descriptor:
    """Return the descriptor without what index.json said about it."""
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size_bytes)


def _blob_name(digest: Digest) -> str:
    if not is_digest(digest):
        raise BadArchive(f"digest {digest} is of an unsupported kind")
    return f"blobs/sha256/{digest[7:]}"


def _check_size(archive: Archive, name: str, blob: Descriptor, manifest: Digest) -> None:
    size = archive.file(name, f"manifest {manifest}").size_bytes
    if size != blob.size_bytes:
        raise BadArchive(f"{name} has {size} bytes, its manifest says {blob.size_bytes}")


def _check_digest(data: bytes, digest: Digest, name: str) -> None:
    if digest_of(data) != digest:
        raise BadArchive(f"{name} has the wrong digest {digest_of(data)}")


# -- docker's archive


def _docker_plan(archive: Archive) -> Plan:
    try:
        entries = json.loads(archive.read(DOCKER_FILE, "the archive"))
    except (ValueError, RecursionError) as error:
        raise BadArchive(f"{DOCKER_FILE} is not valid JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise BadArchive(f"{DOCKER_FILE} is not a list of images")
    return Plan(tuple(_docker_image(archive, Fields(entry, DOCKER_FILE)) for entry in entries))


def _docker_image(archive: Archive, entry: Fields) -> Named:
    config_name = posixpath.normpath(entry.required_text("Config"))
    config = archive.read(config_name, DOCKER_FILE)
    digest = _digest_in(config_name)
    if digest is not None:
        _check_digest(config, digest, config_name)
    diff_ids = ImageConfig.from_json(config).diff_ids
    names = [posixpath.normpath(name) for name in entry.texts("Layers")]
    if len(names) != len(diff_ids):
        raise BadArchive(
            f"{DOCKER_FILE} names {len(names)} layers, config {config_name} {len(diff_ids)}"
        )
    layers = []
    for diff_id, name in zip(diff_ids, names, strict=True):
        archive.file(name, DOCKER_FILE)
        in_blobs = name.startswith("blobs/sha256/")
        layers.append(PlannedLayer(diff_id, name, _digest_in(name) if in_blobs else None))
    return Named(PlannedImage(config, tuple(layers)), _docker_names(entry))


def _docker_names(entry: Fields) -> tuple[Reference, ...]:
    try:
        references = [Reference.parse(name) for name in entry.texts("RepoTags")]
    except InvalidReference as error:
        raise BadArchive(f"{DOCKER_FILE}: {error}") from error
    return tuple(reference for reference in references if not reference.digest)


def _digest_in(name: str) -> Digest | None:
    """Return the digest that a file's name promises, or None.

    The name of a folder `<hex>/layer.tar` is an identifier of old, not a digest.
    """
    match = _HEX_NAME.match(posixpath.basename(name))
    return Digest(f"sha256:{match[1]}") if match else None
