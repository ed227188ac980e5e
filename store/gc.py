"""Garbage collection: layers and blobs that nothing in the store refers to any more.

Roots are image, reference, build and container records, downloads and kept snapshots. Everything
they lead to is marked; the rest goes. A builder or loader has layers that nothing names yet, so it
holds the store's lease; the collector runs only while nobody does, and holds the images still.
What the collector cannot read it does not guess at: a broken record stops it.
"""

import os
from collections.abc import Iterable
from contextlib import suppress

from store import jsonrecords, mediatypes
from store.digest import DiffID, Digest, is_digest
from store.errors import Corrupt, DiskFull, InUse, NotFound, is_full
from store.folder import names_in
from store.keptsteps import layers_of
from store.oci import Descriptor, ImageConfig, Index, Manifest
from store.root import Store
from values.classes import dataclass, field

_CONTAINER_VERSION = 1 << 30  # their own room's business


@dataclass(slots=True)
class Marked:
    """What has to stay."""

    layers: set[DiffID] = field(default_factory=set)
    blobs: set[Digest] = field(default_factory=set)


def collect(store: Store) -> int:
    """Remove what nothing refers to and return how many bytes that freed.

    What was thrown away goes first: on a full disk the records can be opened only after that.
    Raises InUse while a build or another command holds a lease, Corrupt when a record cannot be
    read; nothing but the trash is removed then.
    """
    freed = store.folder.sweep()
    with store.exclusive_lease():
        return freed + collect_alone(store)


def collect_alone(store: Store) -> int:
    """Do what `collect` does for a caller who holds the exclusive lease. Raises Corrupt."""
    with store.images.lock():
        freed = store.folder.sweep()
        store.snapshots.recover()
        marked = mark(store)
        freed += _remove_layers(store, set(store.layers.iter()) - marked.layers)
        freed += _remove_blobs(store, set(store.content.iter()) - marked.blobs)
        store.recover()
    return freed


def discard(
    store: Store, *, layers: Iterable[DiffID] = (), blobs: Iterable[Digest] = ()
) -> list[DiffID]:
    """Remove those of `layers` and `blobs` that nothing refers to; return the layers that went.

    Does nothing while others use the store, when a record is broken or the disk too full to read
    the records: the next collection will.
    """
    candidates, blobs = set(layers), set(blobs)
    if not candidates and not blobs:
        return []
    with suppress(InUse, Corrupt, DiskFull), store.exclusive_lease(), store.images.lock():
        marked = mark(store)
        present = {diff_id for diff_id in candidates - marked.layers if store.layers.has(diff_id)}
        _remove_layers(store, present)
        _remove_blobs(store, blobs - marked.blobs)
        return sorted(present)
    return []


def make_ready(store: Store) -> None:
    """Raise what would stop a removal half-way, before it has begun.

    On a full disk the trash goes now. Broken records stop only the collection.
    """
    if is_full(store.folder.path("trash")):
        store.folder.empty_trash()
    with suppress(InUse, Corrupt), store.exclusive_lease():
        _layers_of_records(store)


def mark(store: Store) -> Marked:
    """Return every layer and blob that something refers to. Raises Corrupt, NewerFormat.

    The caller holds the images still.
    """
    marked = mark_users(store)
    for name in store.snapshots.kept():
        marked.layers |= layers_of(store, name)
    marked.layers |= _layers_of_records(store)
    marked.blobs |= _blobs_of_downloads(store)
    _mark_blobs_of_layers(store, marked)
    return marked


def mark_users(store: Store) -> Marked:
    """Return the layers and blobs of images and containers: not those of builds.

    Raises Corrupt, NewerFormat.
    """
    marked = Marked()
    for image_id in store.images.ids():
        record = store.images.record(image_id)
        _mark_image(store, image_id, marked)
        if record.manifest is not None:
            _mark_document(store, record.manifest, marked)
    for reference in store.images.reference_records():
        _mark_document(store, reference.target, marked)
    marked.layers |= _layers_of_containers(store)
    for name in store.snapshots.kept():
        if not store.snapshots.note_of(name):
            marked.layers.update(store.snapshots.chain_of(name))
    _mark_blobs_of_layers(store, marked)
    return marked


def _mark_blobs_of_layers(store: Store, marked: Marked) -> None:
    for diff_id in marked.layers:
        with suppress(NotFound):
            blob = store.layers.info(diff_id).blob
            if blob is not None:
                marked.blobs.add(blob.digest)


def _layers_of_records(store: Store) -> set[DiffID]:
    """Return the layers that build records name. The caller has the store to itself."""
    path = store.folder.path("records.db")
    if not os.path.exists(path):
        return set()
    try:
        return store.records.diff_ids()
    except DiskFull:
        from store.buildrecords import diff_ids_on_full_disk

        return diff_ids_on_full_disk(path)


def _blobs_of_downloads(store: Store) -> set[Digest]:
    """Return the blobs that downloads are remembered as; none where there is no room to look."""
    if not os.path.exists(store.folder.path("records.db")):
        return set()
    with suppress(DiskFull):
        return store.records.downloads()
    return set()


def _mark_image(store: Store, image_id: Digest, marked: Marked) -> None:
    marked.blobs.add(image_id)
    marked.layers.update(ImageConfig.from_json(store.content.get(image_id)).diff_ids)


def _mark_document(store: Store, descriptor: Descriptor, marked: Marked) -> None:
    """Mark a blob and, when it is a manifest or an index, what it names.

    A blob that is absent marks nothing: indexes name platforms that are not here.
    """
    if descriptor.digest in marked.blobs or not is_digest(descriptor.digest):
        return
    marked.blobs.add(descriptor.digest)
    if not store.content.has(descriptor.digest):
        return
    if descriptor.media_type in mediatypes.INDEXES:
        index = Index.from_json(store.content.get(descriptor.digest))
        for manifest in index.manifests:
            _mark_document(store, manifest, marked)
    elif descriptor.media_type in mediatypes.MANIFESTS:
        document = Manifest.from_json(store.content.get(descriptor.digest))
        marked.blobs.update(blob.digest for blob in (document.config, *document.layers))


def _layers_of_containers(store: Store) -> set[DiffID]:
    """Return the layers that containers' records name: they go with the container, not before."""
    found: set[DiffID] = set()
    folder = store.folder.path("containers")
    for name in names_in(folder):
        if name.endswith(".json"):
            path = os.path.join(folder, name)
            fields = jsonrecords.read(path, "container record", _CONTAINER_VERSION)
            found.update(map(DiffID, fields.texts("layers")) if fields else ())
    return found


def _remove_layers(store: Store, diff_ids: Iterable[DiffID]) -> int:
    freed = 0
    for diff_id in sorted(diff_ids):
        with suppress(NotFound, Corrupt):
            freed += store.layers.info(diff_id).content_bytes
        store.layers.remove(diff_id)
    return freed


def _remove_blobs(store: Store, digests: Iterable[Digest]) -> int:
    freed = 0
    for digest in sorted(digests):
        with suppress(NotFound):
            freed += store.content.size(digest)
        store.content.remove(digest)
    return freed
