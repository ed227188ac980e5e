"""Taking what is damaged out of a store, so that it is pulled or made anew.

Owns what may go with what: nothing that is sound goes. Finding the damage is `check`'s; a Problem's
`subject` says what to take out. The caller holds the exclusive lease.
"""

import contextlib
import os

from store.buildrecords import DOWNLOADS, blob_of_download
from store.cacheusage import forget_memos, memos
from store.digest import DiffID, Digest
from store.errors import NotFound, StoreError
from store.imagerecords import ImageRecords
from store.root import Store
from values.classes import replace

NOTHING = "left as it is"


def drop(store: Store, kind: str, name: str) -> str:
    """Take out what a Problem's subject names; return what was done, in a person's words."""
    match kind:
        case "layer":
            store.layers.remove(DiffID(name))
        case "blob":
            _drop_blob(store, Digest(name))
        case "image":
            return _drop_image(store, Digest(name))
        case "manifest":
            return _forget_manifest(store, Digest(name))
        case "reference":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        case "records":
            _drop_records(store)
        case "record":
            store.records.forget([Digest(name)])
        case "cache mount":
            store.cache_mounts.drop(name)
        case "kept step":
            store.snapshots.remove(name)
        case _:
            return NOTHING
    return "dropped"


def _drop_blob(store: Store, digest: Digest) -> None:
    store.content.remove(digest)
    for diff_id in list(store.layers.iter()):
        with contextlib.suppress(StoreError):
            blob = store.layers.info(diff_id).blob
            if blob is not None and blob.digest == digest:
                store.layers.forget_blob(diff_id)
    if os.path.exists(store.folder.path("records.db")):
        found = memos(store.records, DOWNLOADS)
        lost = [memo.key for memo in found if blob_of_download(memo.value) in (digest, None)]
        forget_memos(store.records, DOWNLOADS, lost)


def _drop_image(store: Store, image_id: Digest) -> str:
    """Remove an image that cannot be read, with its names; its layers stay for who has them."""
    try:
        lines = store.images.remove(image_id, force=True)
    except NotFound:
        return "dropped"
    except StoreError:
        ImageRecords(store.folder).remove(image_id)
        lines = []
    names = [line.partition(" ")[2] for line in lines if line.startswith("Untagged: ")]
    return f"dropped, with its names {', '.join(names)}" if names else "dropped"


def _forget_manifest(store: Store, image_id: Digest) -> str:
    """Let an image have no manifest, and its names lead to it without; it is made anew."""
    images = ImageRecords(store.folder)
    record = images.read(image_id)
    if record is None:
        return NOTHING
    with store.images.lock():
        images.write(replace(record, manifest=None))
    for reference in store.images.references(image_id):
        if reference.digest:
            store.images.untag(reference)
        else:
            store.images.tag(image_id, reference)
    return "its manifest was dropped"


def _drop_records(store: Store) -> None:
    store.close_records()
    for suffix in ("", "-wal", "-shm"):
        store.remove_tree(store.folder.path(f"records.db{suffix}"))
