"""What images, containers and the build cache take on disk, as `docker system df` counts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.engine.cacheentries import sizes, view_of
from pybuild.engine.containers import listed
from pybuild.engine.records import RUNNING
from pybuild.engine.removal import tree_bytes
from values.classes import dataclass

if TYPE_CHECKING:
    from store.root import Store


@dataclass(frozen=True, slots=True)
class Usage:
    """One kind of thing: how many there are, how many are used, bytes, and how many could go."""

    kind: str
    total: int
    active: int
    size_bytes: int
    reclaimable_bytes: int


def usage_of(store: Store) -> list[Usage]:
    """Return docker's rows: images, containers, build cache. A shared layer counts once.

    The cache's row is of what only the cache has.
    """
    return [_images(store), _containers(store), _cache(store)]


def _images(store: Store) -> Usage:
    used = {record.image_id for record in listed(store, everything=True)}
    layers: dict[str, int] = {}
    kept: set[str] = set()
    images = store.images.list()
    for image in images:
        for diff_id in image.config.diff_ids:
            if store.layers.has(diff_id):
                layers[diff_id] = store.layers.info(diff_id).content_bytes
                if image.id in used:
                    kept.add(diff_id)
    free = sum(size for diff_id, size in layers.items() if diff_id not in kept)
    active = sum(image.id in used for image in images)
    return Usage("Images", len(images), active, sum(layers.values()), free)


def _containers(store: Store) -> Usage:
    records = listed(store, everything=True)
    bytes_of = {
        record.id: tree_bytes(os.path.join(store.root, "snapshots", record.snapshot, "fs"))
        for record in records
    }
    running = [record.id for record in records if record.state == RUNNING]
    total = sum(bytes_of.values())
    free = total - sum(bytes_of[id_] for id_ in running)
    return Usage("Containers", len(records), len(running), total, free)


def _cache(store: Store) -> Usage:
    view = view_of(store)
    entries = [entry for entry in view.entries if entry.is_held and entry.parts]
    busy = [entry for entry in entries if entry.is_in_use]
    total = view.total_bytes()
    return Usage("Build Cache", len(entries), len(busy), total, total - sum(sizes(busy).values()))
