"""Which entries of the build cache go, by BuildKit's rules, and letting them go.

`plan` is pure: it says what would go and how many bytes that frees; `carry_out` does it. A record
whose layers go stays on record, see `store.cacheusage`.
Source: BuildKit `cache/manager.go`, prune, sortDeleteRecords and calculateKeepBytes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from pybuild.engine.cacheentries import (
    GIT,
    HTTP,
    KEPT,
    LOCAL,
    MOUNT,
    REGULAR,
    CacheEntry,
    CacheView,
    Part,
    view_of,
)
from pybuild.engine.cachefilters import CacheFilters
from pybuild.engine.core import disk_of
from pybuild.sizes import human_size
from values.classes import dataclass, field, replace

if TYPE_CHECKING:
    from store.root import Store


_ASIDE = (LOCAL, MOUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may go, and how much has to stay or to become free; sizes in bytes, 0 for no limit.

    everything: shared entries too. types: only these, all without any. reserved: is kept whatever
    the other two ask for; max_used: more than this goes; min_free: what the disk shall have.
    """

    everything: bool = False
    types: tuple[str, ...] = ()
    filters: CacheFilters = field(default_factory=CacheFilters)
    reserved: int = 0
    max_used: int = 0
    min_free: int = 0

    def fit(self, entry: CacheEntry) -> bool:
        """Tell whether an entry may go."""
        return (
            entry.is_held
            and bool(entry.parts or entry.records)
            and not entry.is_in_use
            and (self.everything or not entry.is_shared)
            and (not self.types or entry.type in self.types)
            and self.filters.fit(entry)
        )

    def keeps(self, total: int, free: int) -> int | None:
        """Return how many bytes of `total` may stay while `free` are; None: no limit was given."""
        if not (self.reserved or self.max_used or self.min_free):
            return None
        limits = [limit for limit in (self.max_used,) if limit]
        if self.min_free:
            limits.append(min(total, total - (self.min_free - free)))
        return max(min(limits, default=self.reserved), self.reserved)


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes, in its order, and the bytes that this frees."""

    going: tuple[CacheEntry, ...] = ()
    freed_bytes: int = 0

    @property
    def summary(self) -> str:
        """What went, in a line."""
        count = len(self.going)
        return (
            f"{count} {'entry' if count == 1 else 'entries'}, freed {human_size(self.freed_bytes)}"
        )


def plan(view: CacheView, policy: Policy, free: int = 0) -> Plan:
    """Return what a policy takes from `view`, the least used first; free: bytes on the disk."""
    candidates = ranked([entry for entry in view.entries if policy.fit(entry)])
    total = view.total_bytes()
    keep = policy.keeps(total, free)
    users = Counter(part for entry in view.entries if entry.is_held for part in entry.parts)
    going: list[CacheEntry] = []
    freed = 0
    for entry in candidates:
        if keep is not None and total - freed <= keep:
            break
        going.append(entry)
        freed += _freed_with(entry, users, view.pinned)
    return Plan(tuple(going), freed)


def _freed_with(entry: CacheEntry, users: Counter[Part], pinned: frozenset[Part]) -> int:
    freed = 0
    for part, size in entry.parts.items():
        users[part] -= 1
        if not users[part] and part not in pinned:
            freed += size
    return freed


def ranked(entries: Sequence[CacheEntry]) -> list[CacheEntry]:
    """Return entries in the order in which they go: long unused and little used ones first.

    Both count alike, as ranks. What lies upon others goes before these: alone it is of no use.
    """
    times = _ranks([entry.used_s for entry in entries])
    counts = _ranks([entry.uses for entry in entries])
    places = {entry.id: place for place, entry in enumerate(entries)}
    parents = [[places[id_] for id_ in entry.parents if id_ in places] for entry in entries]
    children = Counter(place for found in parents for place in found)

    def ready(place: int) -> tuple[float, int, int]:
        entry = entries[place]
        return times[entry.used_s] + counts[entry.uses], -entry.depth, place

    heap = [ready(place) for place in range(len(entries)) if not children[place]]
    heapify(heap)
    order = []
    while heap:
        place = heappop(heap)[-1]
        order.append(entries[place])
        for parent in parents[place]:
            children[parent] -= 1
            if not children[parent]:
                heappush(heap, ready(parent))
    return order


def _ranks(values: Sequence[float]) -> dict[float, float]:
    """Return the place of each value among the different ones, above 0 and up to 1."""
    different = sorted(set(values))
    return {value: (place + 1) / len(different) for place, value in enumerate(different)}


def without(view: CacheView, gone: Plan) -> CacheView:
    """Return what `view` is after a plan was carried out."""
    ids = {(entry.type, entry.id) for entry in gone.going}
    left = tuple(entry for entry in view.entries if (entry.type, entry.id) not in ids)
    return replace(view, entries=left)


def prune(store: Store, policies: Sequence[Policy], *, dry_run: bool = False) -> Plan:
    """Do what policies say, one after the other, and return what went; `dry_run`: what would go.

    Raises InUse while a build runs, Corrupt when a record of an image cannot be read.
    """
    if dry_run:
        return _plan_all(store, policies)
    store.folder.sweep()  # first: a full disk lets nothing be written
    with store.exclusive_lease():
        chosen = _plan_all(store, policies)
        carry_out(store, chosen)
        return chosen


def prune_aside(store: Store, policies: Sequence[Policy]) -> Plan:
    """Do what policies say with what can go while others build, and return what went.

    That are cache mounts that nobody uses and digests of contexts; not layers, which a build may
    just have found.
    """
    aside = [replace(policy, types=_ASIDE) for policy in policies]
    chosen = _plan_all(store, aside)
    _let_go_aside(store, chosen)
    return chosen


def _plan_all(store: Store, policies: Sequence[Policy]) -> Plan:
    view, chosen = view_of(store), Plan()
    free, _ = disk_of(store.root)
    for policy in policies:
        more = plan(view, policy, free + chosen.freed_bytes)
        chosen = Plan((*chosen.going, *more.going), chosen.freed_bytes + more.freed_bytes)
        view = without(view, more)
    return chosen


def carry_out(store: Store, chosen: Plan) -> None:
    """Let go of what a plan says, and of what killed processes left that nothing refers to.

    The caller holds the exclusive lease.
    """
    from store.buildrecords import DOWNLOADS
    from store.cacheusage import forget_memos, release
    from store.digest import Digest
    from store.errors import InUse
    from store.gc import collect_alone

    names: dict[str, list[str]] = {}
    for entry in chosen.going:
        names.setdefault(entry.type, []).append(entry.name)
    # What needs no room to go is first: letting go of records does, and the disk may be full.
    _let_go_aside(store, chosen)
    for name in names.get(KEPT, ()):
        with suppress(InUse):  # entered a moment ago
            store.snapshots.remove(name)
    keys = [Digest(name) for kind in (REGULAR, GIT) for name in names.get(kind, ())]
    if keys:
        release(store.records, keys)
    if HTTP in names:
        forget_memos(store.records, DOWNLOADS, names[HTTP])
    collect_alone(store)


def _let_go_aside(store: Store, chosen: Plan) -> None:
    for entry in chosen.going:
        if entry.type == LOCAL:
            with suppress(FileNotFoundError):
                os.unlink(entry.name)
    mounts = {entry.id for entry in chosen.going if entry.type == MOUNT}
    for info in store.cache_mounts.mounts():
        if info.key.name in mounts:
            store.cache_mounts.clear(info.key)
