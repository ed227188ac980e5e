"""The cache inside an image: records of its steps in its config, for whoever has the image.

Only the image's own layers have bytes there; other steps leave the names of theirs, so that what
is copied from a stage is found without the stage.
"""

from collections.abc import Iterable, Sequence

from builder.remotecache.entry import CacheEntry
from store.digest import DiffID, Digest
from store.document import decode
from store.layers import BlobRef
from store.oci import ImageConfig
from values.classes import replace

FIELD = "org.pybuild.cache.v1"


def written(config: ImageConfig, entries: Iterable[CacheEntry]) -> ImageConfig:
    """Return the config with records in it; equal builds give equal configs."""
    kept = [replace(entry, blobs=(), started_ns=0, ended_ns=0) for entry in entries]
    texts = sorted({entry.to_json().decode() for entry in kept})
    return replace(config, extra={**config.extra, FIELD: texts}) if texts else config


def read(data: bytes, layers: Sequence[BlobRef], what: str) -> dict[Digest, list[CacheEntry]]:
    """Return the records of an image by key. layers: its blobs, base first. Raises Corrupt."""
    texts = decode(data, what).texts(FIELD)
    config = ImageConfig.from_json(data)
    blobs = dict(zip(config.diff_ids, layers, strict=False))
    found: dict[Digest, list[CacheEntry]] = {}
    for text in texts:
        entry = CacheEntry.from_json(text.encode(), what)
        entry = replace(entry, blobs=_blobs(entry.diff_ids, blobs))
        found.setdefault(entry.key, []).append(entry)
    return found


def _blobs(diff_ids: Sequence[DiffID], blobs: dict[DiffID, BlobRef]) -> tuple[BlobRef, ...]:
    if not all(diff_id in blobs for diff_id in diff_ids):
        return ()
    return tuple(blobs[diff_id] for diff_id in diff_ids)
