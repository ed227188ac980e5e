"""An image from a registry into the store: layers side by side, unpacked while they come.

A layer's bytes pass once, from the network to its blob, through the decompressor to its tree, and
to both digests; none is ever whole in memory. The image gets its names last. After an error what
the pull had added is taken away again; after a kill whole layers stay, and the next pull uses them.
"""

import contextlib
from collections.abc import Generator, Iterator
from functools import partial

from registry_client import blobs
from registry_client.blobs import Blob
from registry_client.client import Access, Client
from registry_client.crew import Crew
from registry_client.errors import BadManifest, DigestMismatch, NoSuchPlatform
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
from registry_client.manifests import Repository
from registry_client.resolve import Resolved, pulling, resolve
from store import gc, platforms
from store.compression import decompressed, prefetched
from store.digest import DiffID, Digest
from store.errors import BadArchive, Corrupt, StoreError
from store.images import Image
from store.layers import BlobRef
from store.oci import Descriptor, ImageConfig, Platform
from store.reference import Reference
from store.root import Store
from store.unpacklimit import bounded
from values.classes import dataclass, field, replace

WORKERS = 3  # layers at once, as docker


@dataclass(frozen=True, slots=True)
class Pulled:
    """A pulled image. is_new: the reference meant something else before, or nothing."""

    image: Image
    reference: Reference
    target: Descriptor
    is_new: bool


def pull(
    store: Store,
    reference: Reference,
    *,
    platform: Platform | None = None,
    access: Access | None = None,
    on_event: OnEvent = ignore,
) -> Pulled:
    """Bring the image that `reference` means at its registry into the store.

    platform: which one of an index; by default this machine's, and then an image without an index
    is taken whatever it is for. Raises RegistryError, StoreError; the store is as before then.
    """
    what = f"pull {reference.familiar()}"
    added = _Added()
    access = access or Access()
    try:
        with Client(reference.registry, access, reference.repository) as client, store.lease():
            repository = Repository(client, reference.repository, pulling(reference.repository))
            resolved = resolve(repository, reference, platform, what)
            job = _Job(store, repository, resolved, platform, what, Emitter(on_event), added)
            return job.run()
    except Exception:
        # Not without a look at what others have begun to use meanwhile: the collector's rules.
        gc.discard(store, layers=added.layers, blobs=added.blobs)
        raise


@dataclass(slots=True)
class _Added:
    """What a pull has put into the store that was not there before. Filled by several threads."""

    layers: list[DiffID] = field(default_factory=list)
    blobs: list[Digest] = field(default_factory=list)


@dataclass(slots=True)
class _Job:
    """One pull of one image."""

    store: Store
    repository: Repository
    resolved: Resolved
    platform: Platform | None
    what: str
    emit: Emitter
    added: _Added
    crew: Crew = field(default_factory=lambda: Crew(WORKERS))

    def run(self) -> Pulled:
        manifest = self.resolved.manifest
        config_bytes, config = self._config()
        layers = dict(zip(config.diff_ids, manifest.layers, strict=True))
        for layer in layers.values():
            self.emit(BlobFound(layer.digest, layer.size_bytes))
        # The largest first, so that the last thread to end began early.
        order = sorted(layers, key=lambda diff_id: -layers[diff_id].size_bytes)
        self.crew.run(partial(self._layer, diff_id, layers[diff_id]) for diff_id in order)
        # A layer may lean on those below it; what it lacks there is its fault, and found out now.
        with self._named("compose layers"):
            self.store.layers.lower_path(config.diff_ids)
        return self._record(config_bytes)

    # -- documents

    def _config(self) -> tuple[bytes, ImageConfig]:
        """Return the image's config. Raises BadManifest where it contradicts the manifest."""
        manifest = self.resolved.manifest
        descriptor = manifest.config
        if self.store.content.has(descriptor.digest):
            data = self.store.content.get(descriptor.digest)
        else:
            data = blobs.fetch(Blob(self.repository, descriptor, f"{self.what}: image config"))
        try:
            config = ImageConfig.from_json(data)
        except Corrupt as error:
            raise BadManifest(f"{self.what}: {error}") from error
        if len(config.diff_ids) != len(manifest.layers):
            raise BadManifest(
                f"{self.what}: the manifest has {len(manifest.layers)} layers, the image config "
                f"{len(config.diff_ids)}"
            )
        if self.platform is not None and not platforms.fits(config.platform, self.platform):
            raise NoSuchPlatform(
                f"{self.what}: no image for platform {self.platform}",
                hint=f"there is: {config.platform}",
            )
        return data, config

    def _record(self, config_bytes: bytes) -> Pulled:
        """Store the documents and, last, let the names lead to the image."""
        resolved = self.resolved
        names = [resolved.reference]
        if resolved.reference.digest is None:
            names.append(replace(resolved.reference, tag=None, digest=resolved.target.digest))
        for document in resolved.documents:
            self._put(document.data, document.descriptor.digest)
        self._put(config_bytes, resolved.manifest.config.digest)
        before = self._target_before()
        image = self.store.images.add(
            config_bytes,
            references=names,
            manifest=resolved.manifest_descriptor,
            target=resolved.target,
        )
        is_new = before != (resolved.target.digest, image.id)
        return Pulled(image, resolved.reference, resolved.target, is_new)

    def _put(self, data: bytes, digest: Digest) -> None:
        if not self.store.content.has(digest):
            self.added.blobs.append(digest)
            self.store.content.put(data)

    def _target_before(self) -> tuple[Digest, Digest] | None:
        """Return what the reference has led to so far: its target and its image."""
        record = self.store.images.reference(self.resolved.reference)
        return (record.target.digest, record.image_id) if record is not None else None

    # -- layers

    def _layer(self, diff_id: DiffID, layer: Descriptor) -> None:
        """Bring one layer, unless it is there. Runs in a thread of its own."""
        self.crew.check()
        store = self.store
        # One process brings the layer, the others wait for it and use it.
        with store.lock(f"pull {diff_id}"), self._named(f"layer {layer.digest}"):
            is_blob_here = store.content.has(layer.digest)
            if store.layers.has(diff_id):
                if is_blob_here:
                    if store.layers.info(diff_id).blob is None:
                        store.layers.set_blob(diff_id, _blob_ref(layer))
                    self.emit(BlobDone(layer.digest, Outcome.EXISTS))
                    return
                # Without its blob the manifest could not go again as it came.
            else:
                self.added.layers.append(diff_id)
            if is_blob_here:
                self._unpack_kept(diff_id, layer)
            else:
                self._fetch_and_unpack(diff_id, layer)
        self.emit(BlobDone(layer.digest, Outcome.PULLED))

    def _unpack_kept(self, diff_id: DiffID, layer: Descriptor) -> None:
        with self.store.content.open(layer.digest) as file:
            chunks = iter(partial(file.read, 1 << 18), b"")
            self._unpack(diff_id, layer, chunks)

    def _fetch_and_unpack(self, diff_id: DiffID, layer: Descriptor) -> None:
        self.added.blobs.append(layer.digest)
        wrong: list[DigestMismatch] = []
        with contextlib.closing(self._received(layer, wrong)) as chunks:
            try:
                self._unpack(diff_id, layer, chunks)
            except (BadArchive, Corrupt) as error:
                # Wrong bytes make a bad layer too: their digest, at their end, tells which it is.
                for _ in chunks:
                    pass
                if wrong:
                    raise wrong[0] from error
                raise

    def _unpack(self, diff_id: DiffID, layer: Descriptor, chunks: Iterator[bytes]) -> None:
        with contextlib.closing(prefetched(chunks)) as ahead:
            tar = decompressed(ahead, name="layer")
            with contextlib.closing(tar):
                limited = bounded(tar, layer.size_bytes, self.store.root)
                self.store.layers.unpack(limited, expected=diff_id, blob=_blob_ref(layer))

    def _received(
        self, layer: Descriptor, wrong: list[DigestMismatch]
    ) -> Generator[bytes, None, None]:
        """Yield the bytes of a layer as they come, and keep them as its blob at their end.

        wrong: gets the error for another digest, for its raising may go unseen.
        """
        blob = Blob(self.repository, layer, f"{self.what}: layer {layer.digest}")

        def on_bytes(done: int) -> None:
            self.crew.check()
            self.emit(BlobMoved(layer.digest, done, layer.size_bytes))

        with self.store.content.writer() as writer:
            stream = blobs.stream(blob, on_bytes, lambda cause: self.emit(Retrying(cause)))
            for chunk in stream:
                writer.write(chunk)
                yield chunk
            try:
                writer.commit(layer.digest)
            except Corrupt as error:
                wrong.append(blobs.mismatch(blob, str(error).rpartition(" ")[2]))
                raise wrong[0] from error

    @contextlib.contextmanager
    def _named(self, part: str) -> Iterator[None]:
        """Let errors of the store say which pull and which part of it failed."""
        try:
            yield
        except StoreError as error:
            raise type(error)(f"{self.what}: {part}: {error}", hint=error.hint) from error


def _blob_ref(layer: Descriptor) -> BlobRef:
    return BlobRef(layer.digest, layer.size_bytes, layer.media_type)
