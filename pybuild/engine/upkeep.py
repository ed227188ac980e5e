"""The store's upkeep: what the build cache holds, damage, and what can go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.engine.containers import listed
from values.classes import dataclass

if TYPE_CHECKING:
    from store.buildrecords import BuildRecord
    from store.root import Store


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A result that the build cache remembers.

    is_present: its layers are in the store; records outlive them. size_bytes: what they hold.
    """

    record: BuildRecord
    is_present: bool
    size_bytes: int


def cache_entries(store: Store) -> list[CacheEntry]:
    """Return every record of the build cache, the newest first."""
    entries = []
    for record in reversed(store.records.list()):
        present = all(store.layers.has(diff_id) for diff_id in record.diff_ids)
        size = sum(store.layers.info(d).content_bytes for d in record.diff_ids) if present else 0
        entries.append(CacheEntry(record, present, size))
    return entries


def check(store: Store, *, deep: bool) -> list[str]:
    """Return a line for each damage in the store."""
    from store.check import check as problems_of

    return [str(problem) for problem in problems_of(store, deep)]


def prune(store: Store, *, forget_cache: bool) -> int:
    """Remove what nothing refers to and return the bytes that freed."""
    from store.gc import collect

    freed = store.folder.empty_trash()  # first: a full disk lets nothing else be written
    listed(store, everything=True)  # what killed supervisors have left goes before what it used
    freed += collect(store)
    if forget_cache:
        store.records.forget()
        freed += collect(store)
    return freed
