"""What the build cache holds, as entries in BuildKit's words: layers, sources and cache mounts.

Owns what an entry is and what it takes on disk; a layer that two entries have counts once in sums.
Source: BuildKit's `client.UsageInfo`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.times import parse_time
from store.errors import StoreError
from values.classes import dataclass, field

if TYPE_CHECKING:
    from store.cachemounts import CacheMountInfo
    from store.cacheusage import UsedRecord
    from store.root import Store

REGULAR, LOCAL, GIT = "regular", "source.local", "source.git.checkout"
HTTP, MOUNT = "source.http", "exec.cachemount"
KEPT = "exec.kept"  # what is kept of a build's step, to be entered
TYPES = (REGULAR, LOCAL, GIT, HTTP, MOUNT, KEPT)

Part = tuple[str, str]  # its kind and its name: ("layer", diff_id), ("blob", digest), …


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A thing that the build cache can give up as one.

    id: hex digits. parts: what it keeps on disk with its bytes; empty when only the record is left.
    parents: ids of the entries whose layer lies right below. depth: how many layers lie below.
    is_shared: an image or container has all of it too. is_in_use: a step works in it.
    records: of a layer, the newest result first. name: of a source or mount, what it is found by.
    """

    id: str
    type: str
    description: str
    created_s: float
    used_s: float
    uses: int = 1
    parts: Mapping[Part, int] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    depth: int = 0
    is_held: bool = True
    is_shared: bool = False
    is_mutable: bool = False
    is_in_use: bool = False
    records: tuple[UsedRecord, ...] = ()
    name: str = ""

    @property
    def size_bytes(self) -> int:
        """What its parts take."""
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class CacheView:
    """All entries at one moment, newest use first; `pinned`: what images and containers have."""

    entries: tuple[CacheEntry, ...]
    pinned: frozenset[Part] = frozenset()

    def total_bytes(self, *, shared: bool = False) -> int:
        """Return what the held entries take, each part once; `shared` counts pinned ones too."""
        parts = sizes(entry for entry in self.entries if entry.is_held)
        return sum(size for part, size in parts.items() if shared or part not in self.pinned)


def sizes(entries: Iterable[CacheEntry]) -> dict[Part, int]:
    """Return every part of `entries` with its bytes, once."""
    return {part: size for entry in entries for part, size in entry.parts.items()}


def view_of(store: Store) -> CacheView:
    """Return what the cache holds. Raises Corrupt when a record of an image is damaged."""
    from store.gc import mark_users

    users = mark_users(store)
    pinned: set[Part] = {("layer", diff_id) for diff_id in users.layers}
    pinned |= {("blob", digest) for digest in users.blobs}
    entries = [
        *_layers(store, pinned),
        *_downloads(store, pinned),
        *_contexts(store),
        *(_mount(store, info) for info in store.cache_mounts.mounts() if info.paths),
        *_kept(store),
    ]
    entries.sort(key=lambda entry: (-entry.used_s, entry.depth))
    return CacheView(tuple(entries), frozenset(pinned))


def _layers(store: Store, pinned: set[Part]) -> Iterator[CacheEntry]:
    """Yield an entry for each cache key, with all results that it gave."""
    from store.cacheusage import used_records

    by_key: dict[str, list[UsedRecord]] = {}
    for used in used_records(store.records):
        by_key.setdefault(used.record.key, []).append(used)
    makers = _makers(store)
    for key, results in by_key.items():
        yield _layer_entry(store, key, results, makers, pinned)


def _makers(store: Store) -> dict[tuple[str, ...], list[str]]:
    """Return the ids of the entries that made each chain."""
    from store.cacheusage import used_records

    makers: dict[tuple[str, ...], list[str]] = {}
    for used in used_records(store.records):
        record = used.record
        chain = (*_texts(record.ingredients.get("parent")), *record.diff_ids)
        makers.setdefault(chain, []).append(_hex(record.key))
    return makers


def _layer_entry(
    store: Store,
    key: str,
    results: list[UsedRecord],
    makers: Mapping[tuple[str, ...], list[str]],
    pinned: set[Part],
) -> CacheEntry:
    newest = results[0].record
    parent = _texts(newest.ingredients.get("parent"))
    parts: dict[Part, int] = {
        ("layer", diff_id): layer_bytes(store, diff_id)
        for used in results
        if used.is_held
        for diff_id in used.record.diff_ids
        if store.layers.has(diff_id)
    }
    created = parse_time(newest.created)
    place = " ".join(filter(None, [newest.stage, str(newest.step)]))
    return CacheEntry(
        id=_hex(key),
        type=GIT if newest.kind == "git" else REGULAR,
        description=f"[{place}] {' '.join(newest.title.split())}",
        created_s=created.timestamp() if created else newest.ended_ns / 1e9,
        used_s=max(used.used_ns for used in results) / 1e9,
        uses=sum(used.uses for used in results),
        parts=parts,
        parents=tuple(id_ for id_ in dict.fromkeys(makers.get(parent, ())) if id_ != _hex(key)),
        depth=len(parent),
        is_held=any(used.is_held for used in results),
        is_shared=bool(parts) and parts.keys() <= pinned,
        records=tuple(results),
        name=key,
    )


def layer_bytes(store: Store, diff_id: str) -> int:
    """Return what a layer takes: its files, and the bytes it came as where they are kept."""
    from store.digest import DiffID

    with suppress(StoreError):
        info = store.layers.info(DiffID(diff_id))
        return info.content_bytes + (info.blob.size_bytes if info.blob else 0)
    return 0


def _downloads(store: Store, pinned: set[Part]) -> Iterator[CacheEntry]:
    from builder.gitref import without_password
    from store.buildrecords import DOWNLOADS, blob_of_download
    from store.cacheusage import memos
    from store.digest import digest_of

    for memo in memos(store.records, DOWNLOADS):
        digest = blob_of_download(memo.value)
        part = ("blob", digest or "")
        used_s = memo.used_ns / 1e9
        yield CacheEntry(
            id=_hex(digest_of(memo.key.encode("utf-8", "surrogateescape"))),
            type=HTTP,
            description=without_password(memo.key),
            created_s=used_s,
            used_s=used_s,
            parts={part: store.content.size(digest)}
            if digest and store.content.has(digest)
            else {},
            is_shared=part in pinned,
            name=memo.key,
        )


def _contexts(store: Store) -> Iterator[CacheEntry]:
    """Yield the remembered digests of contexts' files, a file for each context."""
    from store.folder import names_in

    folder = store.folder.path("contexts")
    for name in names_in(folder):
        path = os.path.join(folder, name)
        with suppress(FileNotFoundError):  # replaced or removed meanwhile
            status = os.stat(path)
            yield CacheEntry(
                id=name.partition(".")[0],
                type=LOCAL,
                description="digests of a context's files",
                created_s=status.st_mtime,
                used_s=status.st_mtime,
                parts={("context", path): status.st_size},
                is_mutable=True,
                name=path,
            )


def _mount(store: Store, info: CacheMountInfo) -> CacheEntry:
    from pybuild.engine.cachemounts import tree

    count = sum(line.size_bytes for path in info.paths for line in tree(path) if not line.is_dir)
    return CacheEntry(
        id=info.key.name,
        type=MOUNT,
        description=f"cache mount {info.key.id}",
        created_s=info.created_ns / 1e9,
        used_s=info.used_ns / 1e9,
        parts={("mount", info.key.name): count},
        is_mutable=True,
        is_in_use=store.cache_mounts.is_used(info),
        name=info.key.id,
    )


def _kept(store: Store) -> Iterator[CacheEntry]:
    """Yield what is kept of builds' steps, above the layers that it stands on."""
    from pybuild.engine.removal import tree_bytes
    from store.keptsteps import kept_steps

    steps = kept_steps(store)
    if not steps:
        return
    makers = _makers(store)
    for step in steps:
        path = store.folder.path("snapshots", step.snapshot)
        with suppress(StoreError, FileNotFoundError):  # removed meanwhile
            chain = store.snapshots.chain_of(step.snapshot)
            used_s = os.stat(f"{path}/kept").st_mtime
            yield CacheEntry(
                id=step.snapshot,
                type=KEPT,
                description=f"{step.role} step {step.number} of build {step.build_id}: {step.name}",
                created_s=used_s,
                used_s=used_s,
                parts={("snapshot", step.snapshot): tree_bytes(f"{path}/fs")},
                parents=tuple(makers.get(chain, ())),
                depth=len(chain),
                is_mutable=True,
                is_in_use=store.snapshots.is_open(step.snapshot),
                name=step.snapshot,
            )


def _hex(digest: str) -> str:
    return digest.rpartition(":")[2]


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()
