"""Images out of the store and into it as archives: docker's, OCI layouts, root file systems.

The face of layout, layoutwriter, manifests, load and importer. Everything streams: no layer is
ever held in memory.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from store import indexes, layout, layoutwriter, mediatypes
from store.content import ContentStore
from store.digest import is_digest
from store.images import Image
from store.importer import import_rootfs
from store.layout import Exported
from store.load import load
from store.manifests import (
    GZIP,
    Compression,
    kept_manifest,
    manifest_of,
    plain_manifest_of,
)
from store.oci import Descriptor, Manifest
from store.reference import Reference
from store.root import Store
from values.classes import dataclass, replace

__all__ = [
    "Selection",
    "export_docker",
    "export_oci",
    "export_oci_folder",
    "import_rootfs",
    "load",
]


@dataclass(frozen=True, slots=True)
class Selection:
    """An image to write, and the references to write it under.

    target: what the references lead to; an index is written as it is, with all of it that is here.
    """

    image: Image
    references: Sequence[Reference] = ()
    target: Descriptor | None = None


ImageToExport = Image | tuple[Image, Sequence[Reference]] | Selection


def export_oci(
    store: Store,
    image: Image,
    dest: BinaryIO,
    *,
    references: Sequence[Reference] = (),
    compression: Compression | str = GZIP,
) -> Descriptor:
    """Write `image` to `dest` as a tar with an OCI layout; return its manifest's descriptor.

    compression: of layers that have no blob yet (none, gzip, zstd), or of all where forced.
    Raises NotFound, Corrupt, StoreError.
    """
    with store.lease():
        exported = _exported(store, (image, references), compression)
        layoutwriter.write_tar(store.content, layout.oci_files([exported]), dest)
        return exported.descriptor


def export_oci_folder(
    store: Store,
    image: Image,
    folder: str | os.PathLike[str],
    *,
    references: Sequence[Reference] = (),
    compression: Compression | str = GZIP,
) -> Descriptor:
    """Write `image` as an OCI layout into a folder, made when absent; its index is replaced.

    Returns the manifest's descriptor. Raises NotFound, Corrupt, StoreError.
    """
    with store.lease():
        exported = _exported(store, (image, references), compression)
        files = layout.oci_files([exported])
        layoutwriter.write_folder(store.content, files, os.fspath(folder))
        return exported.descriptor


def write_exported(
    store: Store, images: Sequence[Exported], dest: BinaryIO | str, *, docker: bool = False
) -> None:
    """Write images whose documents and blobs are all in the store: to a stream, or a folder.

    docker: as `docker save` does, for docker and for OCI tools. Raises Corrupt, StoreError.
    """
    files = layout.docker_files(_merged(images)) if docker else layout.oci_files(images)
    if isinstance(dest, str):
        layoutwriter.write_folder(store.content, files, dest)
    else:
        layoutwriter.write_tar(store.content, files, dest)


def export_docker(store: Store, images: Iterable[ImageToExport], dest: BinaryIO) -> None:
    """Write `images` to `dest` as `docker save` does since 25.0: for docker and for OCI tools.

    images: each with the references to write, or alone for all of its references; as a Selection
    with the index that they lead to.
    Raises NotFound, Corrupt, StoreError.
    """
    with store.lease():
        exported = [_as_it_is(store, item) for item in images]
        files = layout.docker_files(_merged(exported))
        layoutwriter.write_tar(store.content, files, dest, store.layers)


def _as_it_is(store: Store, item: ImageToExport) -> Exported:
    """Return an image on its way out without a layer being compressed for it."""
    selection = _selection(item)
    image = selection.image
    if kept_manifest(store, image) is not None:
        return _exported(store, selection)
    descriptor, manifest, unstored = plain_manifest_of(store, image)
    references = tuple(selection.references)
    return Exported(image, descriptor, manifest, references, descriptor, unstored=unstored)


def _selection(item: ImageToExport) -> Selection:
    if isinstance(item, Image):
        return Selection(item, item.references)
    return Selection(*item) if isinstance(item, tuple) else item


def _exported(store: Store, item: ImageToExport, compression: Compression | str = GZIP) -> Exported:
    if isinstance(compression, str):
        compression = Compression.parse(compression)
    item = _selection(item)
    descriptor, manifest = manifest_of(store, item.image, compression=compression)
    exported = Exported(item.image, descriptor, manifest, tuple(item.references), descriptor)
    if item.target is None or item.target.media_type not in mediatypes.INDEXES:
        return exported
    more = {blob.digest: blob for blob in _with_index(store.content, item.target)}
    if descriptor.digest not in more:
        return exported  # the index names another form of the image
    return replace(exported, root=more[item.target.digest], more=tuple(more.values()))


def _with_index(content: ContentStore, index: Descriptor) -> Iterator[Descriptor]:
    """Yield what an index leads to, documents and blobs; only images that are here as a whole."""
    for descriptor, data in indexes.documents(content, index):
        document = Descriptor(descriptor.media_type, descriptor.digest, len(data))
        if descriptor.media_type not in mediatypes.MANIFESTS:
            yield document
            continue
        manifest = Manifest.from_json(data)
        blobs = (manifest.config, *manifest.layers)
        here = [b for b in blobs if is_digest(b.digest) and content.has(b.digest)]
        if len(here) == len(blobs):
            yield document
            yield from here


def _merged(images: Iterable[Exported]) -> list[Exported]:
    """Return each image once for each document, with all the references it was asked for under."""
    found: dict[tuple[str, str], Exported] = {}
    for exported in images:
        key = (exported.image.id, exported.root.digest)
        references = {*exported.references, *(found[key].references if key in found else ())}
        found[key] = replace(exported, references=tuple(sorted(references, key=str)))
    return list(found.values())
