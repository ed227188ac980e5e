"""The manifest of an image: made and recorded once, at its first save, export or push.

Owns compressing layers into blobs. The blobs are kept and recorded with their layers, so whatever
leaves the store later is byte for byte the same, and no layer is compressed twice.
"""

from typing import get_args

from store import mediatypes
from store.compression import Algorithm, compressed, prefetched
from store.digest import DiffID, Digest, digest_of
from store.errors import StoreError
from store.images import Image
from store.layers import BlobRef
from store.oci import Descriptor, Manifest
from store.root import Store
from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class Compression:
    """How layers become blobs.

    level: None for the algorithm's usual one. force: blobs made otherwise will not do.
    """

    algorithm: Algorithm = "gzip"
    level: int | None = None
    force: bool = False

    @classmethod
    def parse(cls, name: str) -> "Compression":
        """Return the compression called none, gzip or zstd. Raises StoreError for another."""
        for algorithm in get_args(Algorithm):
            if algorithm == name:
                return cls(algorithm)
        raise StoreError(f"compression {name!r} is unknown", hint="use gzip, zstd or none")


GZIP = Compression()

_OCI_TYPES = {
    mediatypes.DOCKER_LAYER: mediatypes.OCI_LAYER,
    mediatypes.DOCKER_LAYER_GZIP: mediatypes.OCI_LAYER_GZIP,
    mediatypes.DOCKER_LAYER_ZSTD: mediatypes.OCI_LAYER_ZSTD,
}


def manifest_of(
    store: Store,
    image: Image,
    *,
    compression: Compression = GZIP,
) -> tuple[Descriptor, Manifest]:
    """Return the manifest of `image` with its descriptor; every blob it names is in the store.

    The recorded one, or one made and recorded now. compression: of layers that have no blob yet;
    one that is forced gives a new manifest that is not recorded.
    Raises NotFound when a layer is absent, Corrupt when one is damaged. The caller holds a lease.
    """
    force = compression.force
    if not force and (kept := kept_manifest(store, image)) is not None:
        return kept
    blobs = {
        diff_id: layer_blob(store, diff_id, compression)
        for diff_id in dict.fromkeys(image.config.diff_ids)
    }
    layers = tuple(_descriptor(blobs[diff_id]) for diff_id in image.config.diff_ids)
    config = Descriptor(mediatypes.OCI_CONFIG, image.id, store.content.size(image.id))
    manifest = Manifest(config, layers)
    data = manifest.to_json()
    descriptor = Descriptor(mediatypes.OCI_MANIFEST, store.content.put(data), len(data))
    if not force:
        store.images.record_manifest(image.id, descriptor, replacing=image.manifest)
    return descriptor, manifest


def kept_manifest(store: Store, image: Image) -> tuple[Descriptor, Manifest] | None:
    """Return the recorded manifest of `image`, None unless every blob of it is here."""
    if image.manifest is None or not store.content.has(image.manifest.digest):
        return None
    manifest = Manifest.from_json(store.content.get(image.manifest.digest))
    if all(store.content.has(layer.digest) for layer in manifest.layers):
        return image.manifest, manifest
    return None


def plain_manifest_of(
    store: Store, image: Image
) -> tuple[Descriptor, Manifest, dict[Digest, bytes | None]]:
    """Return a manifest of `image` as its layers are, and what of it is no blob of the store.

    That is the manifest itself with its bytes, and plain layers (None). Nothing is recorded.

    A layer that came with a blob is that blob; one that was made here is its plain tar, as in
    what docker saves. Raises NotFound, Corrupt.
    """
    layers = []
    unstored: dict[Digest, bytes | None] = {}
    for diff_id in image.config.diff_ids:
        info = store.layers.info(diff_id)
        if info.blob is not None and store.content.has(info.blob.digest):
            layers.append(_descriptor(info.blob))
        else:
            digest = Digest(diff_id)
            layers.append(Descriptor(mediatypes.OCI_LAYER, digest, info.size_bytes))
            unstored[digest] = None
    config = Descriptor(mediatypes.OCI_CONFIG, image.id, store.content.size(image.id))
    manifest = Manifest(config, tuple(layers))
    data = manifest.to_json()
    descriptor = Descriptor(mediatypes.OCI_MANIFEST, digest_of(data), len(data))
    unstored[descriptor.digest] = data
    return descriptor, manifest, unstored


def layer_blob(store: Store, diff_id: DiffID, compression: Compression = GZIP) -> BlobRef:
    """Return the blob of a layer: the one it has, or one made now, kept and recorded.

    Raises NotFound, Corrupt.
    """
    force, level = compression.force, compression.level
    wanted = mediatypes.LAYER_BY_COMPRESSION[compression.algorithm]
    kept = store.layers.info(diff_id).blob
    if kept is not None and store.content.has(kept.digest):
        kept_type = _OCI_TYPES.get(kept.media_type, kept.media_type)
        if not force or (kept_type == wanted and level is None):
            return kept
    # One process makes the blob, the others wait for it and use it.
    with store.lock(f"blob {diff_id}"):
        now = store.layers.info(diff_id).blob
        if now is not None and now != kept and not force and store.content.has(now.digest):
            return now
        chunks = prefetched(store.layers.stream_tar(diff_id))
        digest, size_bytes = store.content.ingest(compressed(chunks, compression.algorithm, level))
        blob = BlobRef(digest, size_bytes, wanted)
        if kept is None or not store.content.has(kept.digest):
            store.layers.set_blob(diff_id, blob, verified=True)
        return blob


def _descriptor(blob: BlobRef) -> Descriptor:
    media_type = _OCI_TYPES.get(blob.media_type, blob.media_type)
    return Descriptor(media_type, blob.digest, blob.size_bytes)
