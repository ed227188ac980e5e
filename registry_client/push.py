"""An image from the store to a registry: blobs side by side, the manifest last.

What goes is what the store has: a pulled image's manifest byte for byte, and for a local image the
one that was made and recorded at its first leaving. Until the manifest is there, nothing at the
registry has changed its meaning; blobs of a broken push are found by the next one.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from registry_client import manifests, uploads
from registry_client.client import Access, Client, scope
from registry_client.crew import Crew
from registry_client.errors import BadStatus, RegistryError
from registry_client.events import (
    BlobDone,
    BlobFound,
    BlobMoved,
    Emitter,
    OnEvent,
    Retrying,
    ignore,
)
from registry_client.manifests import Document, Repository
from registry_client.origins import neighbour
from registry_client.resolve import pulling
from registry_client.uploads import Upload, Wanted
from store import mediatypes
from store.digest import DiffID, Digest
from store.errors import NotFound, StoreError
from store.images import Image
from store.manifests import GZIP, Compression, layer_blob, manifest_of
from store.oci import Descriptor, Index, Manifest
from store.reference import Reference
from store.root import Store
from values.classes import dataclass, field, replace

WORKERS = 3
MAKERS = 2  # layers compressed at once, each in several threads already: memory is what they take


@dataclass(frozen=True, slots=True)
class Shipment:
    """What is pushed, in which form.

    document: the manifest or index that the reference is to name, which is in the store with those
    below it; None for the recorded one, or one made now. compression: of layers that have no blob
    yet. by_digest: no tag names it. sources: repositories of the same registry that have blobs
    which may not be here. fetch: brings such a blob here from wherever it is; tells whether it
    could.
    """

    image: Image
    document: Document | None = None
    compression: Compression = GZIP
    by_digest: bool = False
    sources: Mapping[Digest, str] = field(default_factory=dict)
    fetch: Callable[[Descriptor], bool] = field(default=lambda _blob: False)


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
    _check_tag(reference)
    image = image or store.images.find(str(reference))
    shipment = Shipment(image, compression=compression)
    return ship(store, reference, shipment, access=access, on_event=on_event)


def ship(
    store: Store,
    reference: Reference,
    shipment: Shipment,
    *,
    access: Access | None = None,
    on_event: OnEvent = ignore,
) -> Pushed:
    """Let `reference` name what is shipped. Raises RegistryError, StoreError."""
    what = _check_tag(reference)
    access = access or Access()
    name = reference.repository
    with Client(reference.registry, access, name) as client, store.lease():
        repository = Repository(client, name, (scope(name, "pull", "push"),))
        emit = Emitter(on_event)
        source = neighbour(store, shipment.image, reference)
        return _Job(store, repository, reference, shipment, what, emit, source).run()


def _check_tag(reference: Reference) -> str:
    """Return what errors of a push begin with. Raises RegistryError for what has no tag."""
    what = f"push {reference.familiar()}"
    if reference.tag is None:
        raise RegistryError(f"{what}: a digest cannot be pushed to", hint="give the image a tag")
    return what


@dataclass(slots=True)
class _Job:
    """One push of one image."""

    store: Store
    repository: Repository
    reference: Reference
    shipment: Shipment
    what: str
    emit: Emitter
    source: str = ""
    making: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(MAKERS))

    @property
    def image(self) -> Image:
        """The image that goes."""
        return self.shipment.image

    def run(self) -> Pushed:
        document = self.shipment.document
        if document is None:
            candidates = self._recorded()
            document = next(filter(self._push_recorded, candidates), None) or self._push_made()
        elif not self._push_recorded(document):
            raise NotFound(f"{self.what}: some of its layers are neither here nor there")
        self._name(document)
        return self._record(document.descriptor)

    def _name(self, document: Document) -> None:
        """Let the tag name the document."""
        tag = self.reference.tag
        if self.shipment.by_digest:
            manifests.put(self.repository, document.descriptor.digest, document, self.what)
            return
        assert tag is not None, "push has checked it"
        try:
            manifests.put(self.repository, tag, document, self.what)
        except BadStatus:
            # Where tags cannot be changed, one that is right already is no failure.
            there = manifests.find(self.repository, tag, self.what)
            if there is None or there.digest != document.descriptor.digest:
                raise

    def _record(self, target: Descriptor) -> Pushed:
        """Remember what the names mean at the registry now."""
        images = self.store.images
        record = images.reference(self.reference)
        if not images.has(self.image.id):
            return Pushed(self.image, self.reference, target)
        is_named = record is not None and record.image_id == self.image.id
        if is_named and not self.shipment.by_digest:
            images.tag(self.image.id, self.reference, target=target)
        by_digest = replace(self.reference, tag=None, digest=target.digest)
        images.tag(self.image.id, by_digest, target=target)
        return Pushed(self.image, self.reference, target)

    # -- documents that came with the image, or were made before

    def _recorded(self) -> Iterator[Document]:
        """Yield the index and the manifest that the reference and the image are recorded with."""
        record = self.store.images.reference(self.reference)
        targets = [record.target] if record and record.image_id == self.image.id else []
        targets += [self.image.manifest] if self.image.manifest else []
        for target in [] if self.shipment.compression.force else targets:
            is_document = target.media_type in mediatypes.INDEXES | mediatypes.MANIFESTS
            if is_document and self.store.content.has(target.digest):
                data = self.store.content.get(target.digest)
                yield Document(replace(target, size_bytes=len(data)), data)

    def _push_recorded(self, document: Document) -> bool:
        """Push what a recorded document names; False when some of it cannot be got."""
        if not document.is_index:
            return self._push_manifest(document)
        children = Index.from_json(document.data).manifests
        return all(self._push_child(child) for child in children)

    def _push_child(self, child: Descriptor) -> bool:
        """Push one image of an index by its digest, unless it is there."""
        if manifests.find(self.repository, child.digest, self.what) is not None:
            return True
        document = self._child(child)
        if document is None or not self._push_recorded(document):
            return False
        manifests.put(self.repository, child.digest, document, self.what)
        return True

    def _child(self, child: Descriptor) -> Document | None:
        """Return a document of an index, from here or from where the index was before."""
        if self.store.content.has(child.digest):
            return Document(child, self.store.content.get(child.digest))
        if not self.source:
            return None
        neighbour = Repository(self.repository.client, self.source, pulling(self.source))
        try:
            return manifests.fetch(neighbour, child.digest, self.what)
        except RegistryError:
            return None

    def _push_manifest(self, document: Document) -> bool:
        manifest = Manifest.from_json(document.data)
        layers = {layer.digest: layer for layer in manifest.layers}
        for layer in layers.values():
            self.emit(BlobFound(layer.digest, layer.size_bytes))
        crew = Crew(WORKERS)
        try:
            crew.run(partial(self._send, crew, layer) for layer in _largest_first(layers.values()))
            self._send(crew, manifest.config, is_layer=False)
        except _NotHere:
            return False
        return True

    # -- a manifest made now

    def _push_made(self) -> Document:
        """Compress layers and send each as soon as it is; return the manifest made of them."""
        diff_ids = tuple(dict.fromkeys(self.image.config.diff_ids))
        layers = self.store.layers
        for diff_id in diff_ids:
            if not layers.has(diff_id):
                raise NotFound(f"{self.what}: layer {diff_id} is not in the store")
        order = sorted(diff_ids, key=lambda diff_id: -layers.info(diff_id).size_bytes)
        crew = Crew(WORKERS)
        crew.run(partial(self._make_and_send, crew, diff_id) for diff_id in order)
        descriptor, manifest = manifest_of(
            self.store, self.image, compression=self.shipment.compression
        )
        self._send(crew, manifest.config, is_layer=False)
        return Document(descriptor, self.store.content.get(descriptor.digest))

    def _make_and_send(self, crew: Crew, diff_id: DiffID) -> None:
        crew.check()
        try:
            with self.making:
                blob = layer_blob(self.store, diff_id, self.shipment.compression)
        except StoreError as error:
            raise type(error)(f"{self.what}: {error}", hint=error.hint) from error
        self.emit(BlobFound(blob.digest, blob.size_bytes))
        self._send(crew, Descriptor(blob.media_type, blob.digest, blob.size_bytes))

    # -- blobs

    def _send(self, crew: Crew, blob: Descriptor, *, is_layer: bool = True) -> None:
        """Bring one blob to the registry. Runs in a thread of its own. Raises _NotHere."""
        crew.check()
        content = self.store.content
        kind = "layer" if is_layer else "image config"
        what = f"{self.what}: {kind} {blob.digest}"
        source = self.shipment.sources.get(blob.digest, self.source)
        if source == self.repository.name:
            source = ""
        wanted = Wanted(self.repository, blob.digest, what, source)
        outcome = None
        if not content.has(blob.digest):
            outcome, _ = uploads.place(wanted)
            if outcome is None and not self.shipment.fetch(blob):
                raise _NotHere
        if outcome is None:
            with content.open(blob.digest) as file:
                size_bytes = content.size(blob.digest)
                upload = Upload(self.repository, blob.digest, what, source, size_bytes, file)
                on_bytes = partial(self._sent, crew, blob, is_layer)
                outcome = uploads.send(upload, on_bytes, lambda cause: self.emit(Retrying(cause)))
        if is_layer:
            self.emit(BlobDone(blob.digest, outcome, source))

    def _sent(self, crew: Crew, blob: Descriptor, is_layer: bool, done: int) -> None:
        crew.check()
        if is_layer:
            self.emit(BlobMoved(blob.digest, done, blob.size_bytes))


class _NotHere(Exception):
    """A blob that a manifest names is neither here nor there."""


def _largest_first(layers: Iterable[Descriptor]) -> list[Descriptor]:
    return sorted(layers, key=lambda layer: -layer.size_bytes)
