"""A tar of a root file system becomes an image of one layer, as `docker import` makes it."""

from datetime import UTC, datetime
from typing import BinaryIO

from store import gc, platforms
from store.compression import decompressed
from store.digest import DiffID
from store.errors import BadArchive, Corrupt
from store.images import Image
from store.oci import ContainerConfig, HistoryEntry, ImageConfig, Platform
from store.reference import Reference
from store.root import Store
from store.tarreader import chunks_of


def import_rootfs(
    store: Store,
    tar: BinaryIO,
    *,
    reference: Reference | None = None,
    changes: ContainerConfig | None = None,
    message: str = "",
    platform: Platform | None = None,
) -> Image:
    """Store the file system in `tar` as an image and return it.

    tar: a stream, compressed with gzip, zstd, xz, bzip2 or not. changes: the image's container
    config. message: the comment in its history.
    Raises BadArchive, and the store is as before.
    """
    created = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    added: list[DiffID] = []
    try:
        with store.lease():
            known = set(store.layers.iter())
            diff_id = _unpack(store, tar)
            if diff_id not in known:
                added.append(diff_id)
            config = _config(diff_id, changes, message, created, platform or platforms.host())
            return store.images.add(config, references=[reference] if reference else ())
    except BaseException:
        gc.discard(store, layers=added)
        raise


def _unpack(store: Store, tar: BinaryIO) -> DiffID:
    try:
        return store.layers.unpack(decompressed(chunks_of(tar)))
    except (BadArchive, Corrupt) as error:
        raise BadArchive(f"import: {error}", hint=error.hint) from error


def _config(
    diff_id: DiffID,
    changes: ContainerConfig | None,
    message: str,
    created: str,
    platform: Platform,
) -> ImageConfig:
    comment = message or "Imported from -"
    return ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        created=created,
        config=changes or ContainerConfig(),
        diff_ids=(diff_id,),
        history=(HistoryEntry(created=created, comment=comment),),
    )
