"""An image from the store to a registry: blobs side by side, the manifest last.

What goes is what the store has: a pulled image's manifest byte for byte, and for a local image the
one that was made and recorded at its first leaving. Until the manifest is there, nothing at the
registry has changed its meaning; blobs of a broken push are found by the next one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from registry_client import blobs, manifests, uploads
from registry_client.client import Access, Client, scope
from registry_client.crew import Crew
from registry_client.errors import BadStatus, RegistryError
from registry_client.events import (
    BlobDone,
    BlobFound,
    BlobMoved,
    Emitter,
    OnEvent,
    Outcome,
    Retrying,
    ignore,
)
from registry_client.manifests import Document, Repository
from registry_client.uploads import Upload
from store import mediatypes
from store.digest import DiffID, Digest
from store.errors import NotFound, StoreError
from store.images import Image
from store.manifests import GZIP, Compression, layer_blob, manifest_of
from store.oci import Descriptor, Index, Manifest
from store.reference import Reference
from store.root import Store

WORKERS = 3


@dataclass(frozen=True, slots=True)
class Pushed:
    """A pushed image. target: what the reference names at the registry now."""

    image: Image
    reference: Reference
    target: Descriptor


def push(
    store: Store,
    reference: Reference,
    *,
    image: Image | None = None,
    compression: Compression = GZIP,
    access: Access | None = None,
    on_event: OnEvent = ignore,
) -> Pushed:
    """Let `reference` name an image at its registry.

    image: by default the one that the reference leads to here. compression: of layers that have no
    blob yet. Raises RegistryError, StoreError (NotFound where there is no such image).
    """
    what = f"push {reference.familiar()}"
    if reference.tag is None:
        raise RegistryError(f"{what}: a digest cannot be pushed to", hint="give the image a tag")
    access = access or Access()
    image = image or store.images.find(str(reference))
    name = reference.repository
    with Client(reference.registry, access, name) as client, store.lease():
        repository = Repository(client, name, (scope(name, "pull", "push"),))
        job = _Job(store, repository, reference, image, compression, what, Emitter(on_event))
        return job.run()


@dataclass(slots=True)
class _Job:
    """One push of one image."""

    store: Store
    repository: Repository
    reference: Reference
    image: Image
    compression: Compression
    what: str
    emit: Emitter
    crew: Crew = field(default_factory=lambda: Crew(WORKERS))

    def run(self) -> Pushed:
        candidates = self._recorded()
        document = next(filter(self._push_recorded, candidates), None) or self._push_made()
        self._name(document)
        return self._record(document.descriptor)

    def _name(self, document: Document) -> None:
        """Let the tag name the document."""
        tag = self.reference.tag
        assert tag is not None, "push has checked it"
        try:
            manifests.put(self.repository, tag, document, self.what)
        except BadStatus:
            # Where tags cannot be changed, one that is right already is no failure.
            there = manifests.find(self.repository, tag, self.what)
            if there is None or there.digest != document.descriptor.digest:
                raise

    def _record(self, target: Descriptor) -> Pushed:
        """Remember under which digest the image is at the registry."""
        by_digest = replace(self.reference, tag=None, digest=target.digest)
        self.store.images.tag(self.image.id, by_digest, target=target)
        return Pushed(self.image, self.reference, target)

    # -- documents that came with the image, or were made before

    def _recorded(self) -> Iterator[Document]:
        """Yield the index and the manifest that the reference and the image are recorded with."""
        record = self.store.images.reference(self.reference)
        targets = [record.target] if record and record.image_id == self.image.id else []
        targets += [self.image.manifest] if self.image.manifest else []
        for target in [] if self.compression.force else targets:
            is_document = target.media_type in mediatypes.INDEXES | mediatypes.MANIFESTS
            if is_document and self.store.content.has(target.digest):
                data = self.store.content.get(target.digest)
                yield Document(replace(target, size_bytes=len(data)), data)

    def _push_recorded(self, document: Document) -> bool:
        """Push what a recorded document names; False when that is neither here nor there."""
        if not document.is_index:
            return self._push_manifest(document)
        children = Index.from_json(document.data).manifests
        return all(self._push_child(child) for child in children)

    def _push_child(self, child: Descriptor) -> bool:
        """Push one image of an index by its digest, unless it is there."""
        if manifests.find(self.repository, child.digest, self.what) is not None:
            return True
        if not self.store.content.has(child.digest):
            return False
        document = Document(child, self.store.content.get(child.digest))
        if not self._push_recorded(document):
            return False
        manifests.put(self.repository, child.digest, document, self.what)
        return True

    def _push_manifest(self, document: Document) -> bool:
        manifest = Manifest.from_json(document.data)
        layers = {layer.digest: layer for layer in manifest.layers}
        missing = [digest for digest in layers if not self.store.content.has(digest)]
        if any(not self._is_there(digest) for digest in missing):
            return False
        for layer in layers.values():
            self.emit(BlobFound(layer.digest, layer.size_bytes))
        source = self._neighbour()
        self.crew.run(
            partial(self._send, layer, source) for layer in _largest_first(layers.values())
        )
        self._send(manifest.config, source, is_layer=False)
        return True

    def _is_there(self, digest: Digest) -> bool:
        return blobs.exists(self.repository, digest, self.what)

    # -- a manifest made now

    def _push_made(self) -> Document:
        """Compress layers and send each as soon as it is; return the manifest made of them."""
        diff_ids = tuple(dict.fromkeys(self.image.config.diff_ids))
        layers = self.store.layers
        for diff_id in diff_ids:
            if not layers.has(diff_id):
                raise NotFound(f"{self.what}: layer {diff_id} is not in the store")
        order = sorted(diff_ids, key=lambda diff_id: -layers.info(diff_id).size_bytes)
        source = self._neighbour()
        self.crew.run(partial(self._make_and_send, diff_id, source) for diff_id in order)
        with self.store.lease():
            descriptor, manifest = manifest_of(self.store, self.image, compression=self.compression)
        self._send(manifest.config, source, is_layer=False)
        return Document(descriptor, self.store.content.get(descriptor.digest))

    def _make_and_send(self, diff_id: DiffID, source: str) -> None:
        self.crew.check()
        try:
            blob = layer_blob(self.store, diff_id, self.compression)
        except StoreError as error:
            raise type(error)(f"{self.what}: {error}", hint=error.hint) from error
        self.emit(BlobFound(blob.digest, blob.size_bytes))
        layer = Descriptor(blob.media_type, blob.digest, blob.size_bytes)
        self._send(layer, source)

    # -- blobs

    def _send(self, blob: Descriptor, source: str, *, is_layer: bool = True) -> None:
        """Bring one blob to the registry. Runs in a thread of its own."""
        self.crew.check()
        if not self.store.content.has(blob.digest):
            outcome, mounted_from = Outcome.EXISTS, ""  # looked for before
        else:
            kind = "layer" if is_layer else "image config"
            with self.store.content.open(blob.digest) as file:
                upload = Upload(
                    self.repository,
                    blob.digest,
                    self.store.content.size(blob.digest),
                    file,
                    f"{self.what}: {kind} {blob.digest}",
                    source if is_layer else "",
                )
                outcome, mounted_from = uploads.send(
                    upload,
                    partial(self._sent, blob, is_layer),
                    lambda cause: self.emit(Retrying(cause)),
                )
        if is_layer:
            self.emit(BlobDone(blob.digest, outcome, mounted_from))

    def _sent(self, blob: Descriptor, is_layer: bool, done: int) -> None:
        self.crew.check()
        if is_layer:
            self.emit(BlobMoved(blob.digest, done, blob.size_bytes))

    def _neighbour(self) -> str:
        """Return another repository of this registry that has or had the image's layers, or ""."""
        wanted = set(self.image.config.diff_ids)
        here = self.reference
        found: dict[str, int] = {}
        for record in self.store.images.reference_records():
            other = record.reference
            is_neighbour = other.registry == here.registry and other.repository != here.repository
            # Only names with a digest have been there: they come from a pull or a push.
            if is_neighbour and other.digest and other.repository not in found:
                layers = self.store.images.get(record.image_id).config.diff_ids
                found[other.repository] = len(wanted.intersection(layers))
        best = max(found, key=lambda name: found[name], default=None)
        return best if best is not None and found[best] else ""


def _largest_first(layers: Iterable[Descriptor]) -> list[Descriptor]:
    return sorted(layers, key=lambda layer: -layer.size_bytes)
