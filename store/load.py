"""Loading image archives into the store: all of an archive's images, or nothing.

Reads the documents first (store/archiveplan.py), then unpacks layers, then records the images.
When anything is wrong, whatever the load had added is taken away again, so the store is as it
was before.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from store import archivesource, gc, platforms
from store.archiveplan import Named, Plan, PlannedImage, PlannedLayer, only, plan
from store.archivesource import Archive
from store.compression import decompressed, detect
from store.digest import DiffID, Digest
from store.errors import BadArchive, Corrupt
from store.images import Image
from store.layers import BlobRef
from store.mediatypes import LAYER_BY_COMPRESSION
from store.oci import Platform
from store.reference import Reference
from store.root import Store
from store.unpacklimit import bounded
from values.classes import dataclass, field

Loaded = list[tuple[Image, Reference | None]]


def load(
    store: Store,
    source: BinaryIO | str | os.PathLike[str],
    *,
    platform: Platform | None = None,
    alone: bool = False,
) -> Loaded:
    """Store the images of an archive and return each with its reference, None without a name.

    source: a stream that holds docker's archive or an OCI layout as a tar, compressed with gzip,
    zstd, xz, bzip2 or not; or the path of such a file, or of a layout's folder.
    platform: which image of an index its name leads to; by default this machine's. alone: take
    only the images for `platform`.
    Raises BadArchive, and the store is as before.
    """
    added = _Added(store)
    try:
        with store.lease(), _translated(source), archivesource.opened(source, store.folder) as it:
            platform = platform or platforms.host()
            planned = plan(it, platform)
            if alone:
                planned = only(planned, platform)
            _store_blobs(added, it, planned)
            return _record(store, planned)
    except BaseException:
        # Not without a look at what others have begun to use meanwhile: the collector's rules.
        gc.discard(store, layers=added.layers, blobs=added.blobs)
        raise


@dataclass(slots=True)
class _Added:
    """What a load has put into the store that was not there before."""

    store: Store
    layers: list[DiffID] = field(default_factory=list)
    blobs: list[Digest] = field(default_factory=list)

    def put(self, data: bytes) -> None:
        """Store a document."""
        digest = self.store.content.put(data)
        self.blobs.append(digest)

    def ingest(self, archive: Archive, name: str, expected: Digest | None) -> Digest:
        """Store a file of the archive as a blob and return its digest."""
        file = archive.file(name, "the plan")
        if file.digest and expected and file.digest != expected:
            raise BadArchive(f"{name} has the wrong digest {file.digest}")
        if expected and self.store.content.has(expected):
            return expected
        digest, _ = self.store.content.ingest(file.chunks(), expected)
        self.blobs.append(digest)
        return digest


@contextmanager
def _translated(source: object) -> Iterator[None]:
    """Say of every broken document that the archive is broken, and which archive."""
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", "")
    what = f"load {os.fspath(name)}" if isinstance(name, str | os.PathLike) and name else "load"
    try:
        yield
    except (BadArchive, Corrupt) as error:
        raise BadArchive(f"{what}: {error}", hint=error.hint) from error


def _store_blobs(added: _Added, archive: Archive, planned: Plan) -> None:
    for named in planned.images:
        for image in (named.image, *named.others):
            diff_ids = tuple(layer.diff_id for layer in image.layers)
            for position, layer in enumerate(image.layers):
                _store_layer(added, archive, image, layer, diff_ids[:position])
    for document in planned.documents:
        added.put(document)
    for blob in planned.blobs:
        added.ingest(archive, f"blobs/sha256/{blob.digest[7:]}", blob.digest)


def _store_layer(
    added: _Added,
    archive: Archive,
    image: PlannedImage,
    layer: PlannedLayer,
    below: Sequence[DiffID],
) -> None:
    layers = added.store.layers
    file = archive.file(layer.name, "the plan")
    if file.digest and layer.digest and file.digest != layer.digest:
        raise BadArchive(f"{layer.name} has the wrong digest {file.digest}")
    compression = detect(file.head())
    is_new = not layers.has(layer.diff_id)
    if is_new:
        added.layers.append(layer.diff_id)
    if image.manifest is not None or compression in ("gzip", "zstd"):
        digest = added.ingest(archive, layer.name, layer.digest)
        media_type = LAYER_BY_COMPRESSION[compression]
        if is_new:
            layers.unpack_blob(digest, media_type, layer.diff_id, below)
        elif layers.info(layer.diff_id).blob is None:
            layers.set_blob(layer.diff_id, BlobRef(digest, file.size_bytes, media_type))
    elif is_new:
        tar = bounded(
            decompressed(file.chunks(), name=layer.name), file.size_bytes, added.store.root
        )
        layers.unpack(tar, expected=layer.diff_id, below=below)


def _record(store: Store, planned: Plan) -> Loaded:
    loaded: Loaded = []
    for named in planned.images:
        for other in named.others:
            store.images.add(other.config, manifest=other.manifest)
        image = _add(store, named)
        loaded += [(image, reference) for reference in named.references] or [(image, None)]
    return loaded


def _add(store: Store, named: Named) -> Image:
    planned = named.image
    return store.images.add(
        planned.config,
        references=named.references,
        manifest=planned.manifest,
        target=named.target,
    )
