"""Images of registries that are looked at: manifest and config, no layer.

What a remote cache knows of them is enough for many builds; their layers come when they are needed.
"""

from functools import partial

from builder.absent import Origin
from builder.request import BuildRequest
from builder.transfers import access_of
from registry_client import blobs
from registry_client.blobs import Blob
from registry_client.client import Access, Client
from registry_client.errors import BadManifest
from registry_client.manifests import Repository
from registry_client.resolve import pulling, resolve
from store.digest import DiffID, Digest
from store.errors import Corrupt
from store.images import Image
from store.layers import BlobRef
from store.oci import Descriptor, ImageConfig, Platform
from store.reference import Reference
from store.root import Store
from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class Seen:
    """An image at a registry. digest: of what its name means. layers: where each is to be had."""

    image: Image
    digest: Digest
    layers: tuple[tuple[DiffID, Origin], ...]


def look_at(store: Store, reference: Reference, platform: Platform, request: BuildRequest) -> Seen:
    """Return an image of a registry by its name. Raises RegistryError."""
    what = f"pull {reference.familiar()}"
    access, name = access_of(request), reference.repository
    with Client(reference.registry, access, name) as client:
        repository = Repository(client, name, pulling(name))
        resolved = resolve(repository, reference, platform, what)
        manifest = resolved.manifest
        data = blobs.fetch(Blob(repository, manifest.config, f"{what}: image config"))
    try:
        config = ImageConfig.from_json(data)
    except Corrupt as error:
        raise BadManifest(f"{what}: {error}") from error
    if len(config.diff_ids) != len(manifest.layers):
        raise BadManifest(f"{what}: its manifest and its config have different numbers of layers")
    layers = []
    for diff_id, layer in zip(config.diff_ids, manifest.layers, strict=True):
        blob = BlobRef(layer.digest, layer.size_bytes, layer.media_type)
        bring = partial(_bring, store, reference, access, layer)
        layers.append((diff_id, Origin(blob, bring, reference.registry, name)))
    return Seen(Image(manifest.config.digest, config), resolved.target.digest, tuple(layers))


def _bring(store: Store, reference: Reference, access: Access, layer: Descriptor) -> None:
    name = reference.repository
    with Client(reference.registry, access, name) as client:
        repository = Repository(client, name, pulling(name))
        what = f"pull {reference.familiar()}: layer {layer.digest}"
        store.content.ingest(blobs.stream(Blob(repository, layer, what)), layer.digest)
