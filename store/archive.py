"""Images out of the store and into it as archives: docker's, OCI layouts, root file systems.

The face of layout, layoutwriter, manifests, load and importer. Everything streams: no layer is
ever held in memory.
"""

import os
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from store import layout, layoutwriter
from store.images import Image
from store.importer import import_rootfs
from store.layout import Exported
from store.load import load
from store.manifests import GZIP, Compression, manifest_of
from store.oci import Descriptor
from store.reference import Reference
from store.root import Store

__all__ = ["export_docker", "export_oci", "export_oci_folder", "import_rootfs", "load"]

ImageToExport = Image | tuple[Image, Sequence[Reference]]


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


def export_docker(store: Store, images: Iterable[ImageToExport], dest: BinaryIO) -> None:
    """Write `images` to `dest` as `docker save` does since 25.0: for docker and for OCI tools.

    images: each with the references to write, or alone for all of its references.
    Raises NotFound, Corrupt, StoreError.
    """
    with store.lease():
        exported = [_exported(store, item) for item in images]
        files = layout.docker_files(_merged(exported))
        layoutwriter.write_tar(store.content, files, dest)


def _exported(store: Store, item: ImageToExport, compression: Compression | str = GZIP) -> Exported:
    if isinstance(compression, str):
        compression = Compression.parse(compression)
    image, references = (item, item.references) if isinstance(item, Image) else item
    made = manifest_of(store, image, compression=compression)
    return Exported(image, *made, tuple(references))


def _merged(images: Iterable[Exported]) -> list[Exported]:
    """Return each image once, with all the references it was asked for under."""
    found: dict[str, Exported] = {}
    for exported in images:
        known = found.get(exported.image.id)
        references = (*known.references, *exported.references) if known else exported.references
        found[exported.image.id] = Exported(
            exported.image,
            exported.descriptor,
            exported.manifest,
            tuple(sorted(set(references), key=str)),
        )
    return list(found.values())
