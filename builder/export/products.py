"""What a build makes: an image for each of its targets, in a variant for each platform.

Owns the way from an image in the store to its documents: manifests, and the index of several.
Source: image-spec manifest.md, image-index.md; BuildKit exporter/containerimage/writer.go.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from builder.errors import BuildError
from builder.export.annotations import of_level
from builder.export.attestations import Statement, attestation_manifest
from builder.export.forms import Form
from builder.export.provenance import package_url
from builder.request import Output
from store import mediatypes
from store.digest import DiffID, Digest, digest_of, is_digest
from store.layers import BlobRef
from store.manifests import Compression
from store.oci import Descriptor, ImageConfig, Index, Manifest, Platform
from store.reference import Reference
from store.root import Store
from store.tartimes import clamped
from values.classes import dataclass, replace

BlobOf = Callable[[DiffID, Compression], BlobRef]
Attest = Callable[["Variant"], Sequence[Statement]]
_MEMO = "rewritten"
_DOCKER_LAYERS = {
    mediatypes.OCI_LAYER: mediatypes.DOCKER_LAYER,
    mediatypes.OCI_LAYER_GZIP: mediatypes.DOCKER_LAYER_GZIP,
    mediatypes.OCI_LAYER_ZSTD: mediatypes.DOCKER_LAYER_ZSTD,
}
_OCI_LAYERS = {docker: oci for oci, docker in _DOCKER_LAYERS.items()}


@dataclass(frozen=True, slots=True)
class Variant:
    """An image for one platform.

    base_layers: how many of its layers its base brought. scan: the root file system in which a
    generator has listed its packages, None without one.
    """

    config: ImageConfig
    base_layers: int = 0
    scan: tuple[DiffID, ...] | None = None

    @property
    def platform(self) -> Platform:
        """What it runs on."""
        return self.config.platform

    @property
    def chain(self) -> tuple[DiffID, ...]:
        """Its layers, base first."""
        return self.config.diff_ids

    @property
    def id(self) -> Digest:
        """The image ID."""
        return digest_of(self.config.to_json())


@dataclass(frozen=True, slots=True)
class Product:
    """What one target of a build gives. stage: its name, "" for the target of the build itself."""

    variants: tuple[Variant, ...]
    references: tuple[Reference, ...] = ()
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a product, all in the store.

    root: the manifest, or the index of several. manifests: one a variant. blobs: everything that
    they name, down to the layers, `root` left out.
    """

    root: Descriptor
    manifests: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]


def references_of(product: Product, output: Output) -> tuple[Reference, ...]:
    """Return the names of a product at one output, whose own are the build's target's only."""
    own = () if product.stage else tuple(map(Reference.parse, output.names))
    return tuple(dict.fromkeys((*product.references, *own)))


def in_form(store: Store, product: Product, form: Form) -> Product:
    """Return the product with the times that a form allows. Raises StoreError."""
    if form.epoch_s is None:
        return product
    variants = tuple(_with_epoch(store, variant, form) for variant in product.variants)
    return replace(product, variants=variants)


def _with_epoch(store: Store, variant: Variant, form: Form) -> Variant:
    assert form.epoch_s is not None, "in_form asks only then"
    config = at_epoch(variant.config, form.epoch_s)
    if form.is_rewritten:
        chain = list(variant.chain)
        for number in range(variant.base_layers, len(chain)):
            chain[number] = rewritten(store, chain[: number + 1], form.epoch_s)
        config = replace(config, diff_ids=tuple(chain))
    return replace(variant, config=config)


def at_epoch(config: ImageConfig, epoch_s: int) -> ImageConfig:
    """Return a config that was made at `epoch_s`, with no step after it.

    Source: BuildKit writer.go, patchImageConfig.
    """
    moment = datetime.fromtimestamp(epoch_s, UTC)
    text = moment.isoformat().replace("+00:00", "Z")
    history = tuple(
        entry
        if entry.created and _moment(entry.created) <= moment
        else replace(entry, created=text)
        for entry in config.history
    )
    return replace(config, created=text, history=history)


def _moment(text: str | None) -> datetime:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def rewritten(store: Store, chain: Sequence[DiffID], epoch_s: int) -> DiffID:
    """Return the top layer of `chain` with no time after `epoch_s`; made once and then known."""
    key = f"{chain[-1]} {epoch_s}"
    known = store.records.recall(_MEMO, key)
    if known is not None and is_digest(known) and store.layers.has(DiffID(known)):
        return DiffID(known)
    below = chain[:-1]
    made = store.layers.unpack(clamped(store.layers.stream_tar(chain[-1]), epoch_s), below=below)
    store.records.remember(_MEMO, key, made)
    return made


def documents_of(
    store: Store, product: Product, form: Form, blob_of: BlobOf, attest: Attest | None = None
) -> Documents:
    """Make the documents of a product in the store. Raises BuildError, StoreError.

    attest: gives what is attested of a variant.
    """
    manifests: list[Descriptor] = []
    blobs: list[Descriptor] = []
    for variant in product.variants:
        manifest = _manifest(store, variant, form, blob_of)
        descriptor = _put(store, manifest.to_json(), manifest.media_type)
        named = of_level(form.annotations, "manifest-descriptor", variant.platform)
        manifests.append(replace(descriptor, platform=variant.platform, annotations=named or None))
        blobs += [manifest.config, *manifest.layers]
    beside: list[Descriptor] = []
    for about, variant in zip(manifests, product.variants, strict=True) if attest else ():
        names = [package_url(name, str(variant.platform)) for name in product.references]
        assert attest is not None, "else there is nothing to go through"
        entry, named_blobs = attestation_manifest(store, about, names or ["_"], attest(variant))
        beside.append(entry)
        blobs += named_blobs
    blobs = list({blob.digest: blob for blob in blobs}.values())
    if len(manifests) == 1 and not beside:
        for level in ("index", "index-descriptor"):
            if of_level(form.annotations, level):
                raise BuildError(f"annotations of type {level}: a single image has no index")
        return Documents(manifests[0], (manifests[0],), tuple(blobs))
    media_type = mediatypes.DOCKER_INDEX if form.docker_types else mediatypes.OCI_INDEX
    annotations = of_level(form.annotations, "index") or None
    index = Index((*manifests, *beside), media_type, annotations=annotations)
    root = _put(store, index.to_json(), media_type)
    root = replace(root, annotations=of_level(form.annotations, "index-descriptor") or None)
    return Documents(root, tuple(manifests), (*manifests, *beside, *blobs))


def _manifest(store: Store, variant: Variant, form: Form, blob_of: BlobOf) -> Manifest:
    docker = form.docker_types
    data = variant.config.to_json()
    config = _put(store, data, mediatypes.DOCKER_CONFIG if docker else mediatypes.OCI_CONFIG)
    found = {diff_id: blob_of(diff_id, form.compression) for diff_id in set(variant.chain)}
    return Manifest(
        config,
        tuple(_layer(found[diff_id], docker_types=docker) for diff_id in variant.chain),
        mediatypes.DOCKER_MANIFEST if docker else mediatypes.OCI_MANIFEST,
        annotations=of_level(form.annotations, "manifest", variant.platform) or None,
    )


def _layer(blob: BlobRef, *, docker_types: bool) -> Descriptor:
    types = _DOCKER_LAYERS if docker_types else _OCI_LAYERS
    return Descriptor(types.get(blob.media_type, blob.media_type), blob.digest, blob.size_bytes)


def _put(store: Store, data: bytes, media_type: str) -> Descriptor:
    return Descriptor(media_type, store.content.put(data), len(data))
