"""The build cache's records, in `records.db`: which results a cache key has given, and small memos.

Refuses to know how keys are computed and where layers lie: a record outlives its layer's bytes.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence

from store.checkpoint import checkpoint
from store.database import Database, are, as_json, marks, row_values
from store.digest import DiffID, Digest, is_digest
from store.errors import Corrupt
from values.classes import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RESULTS_PER_KEY = 8
DOWNLOADS = "download"  # memos: what is at an address, a JSON object with the blob's `digest`


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One result of a cache key: what a vertex made, and everything its key was made of.

    diff_ids: the layers that the vertex added, usually one. created: RFC 3339, for the history.
    title: the instruction's text. step: its number in the stage. ingredients: JSON values; what
    `explain` compares.
    """

    key: Digest
    diff_ids: tuple[DiffID, ...]
    created: str = ""
    kind: str = ""
    title: str = ""
    dockerfile: str = ""
    stage: str = ""
    step: int = 0
    ingredients: Mapping[str, object] = field(default_factory=dict, hash=False)
    started_ns: int = 0
    ended_ns: int = 0
    build_id: str = ""


_Records = list[BuildRecord]  # named here because `list` inside the class is its method


class BuildRecords(Database):
    """Results of cache keys, and memos."""

    def lookup(self, key: Digest) -> _Records:
        """Return the results that `key` has given, newest first, at most 8.

        Not those that were released: only explanations need these.
        """
        rows = self.read(
            f"SELECT {RECORD} FROM records WHERE key = ? AND held ORDER BY id DESC", (key,)
        )
        return self.sound(rows, record_of)

    def newest(self, keys: Iterable[str]) -> tuple[tuple[str, int], ...]:
        """Return those of `keys` that have a result, sorted, each with its newest one's number.

        Released ones do not count. Every result that is recorded has a number of its own.
        """
        wanted = sorted(set(keys))
        query = (
            f"SELECT key, max(id) FROM records WHERE held AND key IN ({marks(len(wanted))})"
            " GROUP BY key"
        )
        return tuple(sorted((row[0], row[1]) for row in self.read(query, wanted)))

    def every(self, key: str) -> _Records:
        """Return all results on record of `key`, newest first, also those that were released."""
        rows = self.read(f"SELECT {RECORD} FROM records WHERE key = ? ORDER BY id DESC", (key,))
        return self.sound(rows, record_of)

    def insert(self, record: BuildRecord) -> None:
        """Add a result. The same result of the same key replaces the earlier record."""
        diff_ids = as_json(list(record.diff_ids))
        with self.writing() as db:
            db.execute("DELETE FROM records WHERE key = ? AND diff_ids = ?", (record.key, diff_ids))
            db.execute(
                f"INSERT INTO records ({RECORD}, used_ns) VALUES ({marks(12)}, ?)",
                row_values(
                    record.key,
                    diff_ids,
                    record.created,
                    record.kind,
                    record.title,
                    record.dockerfile,
                    record.stage,
                    record.step,
                    as_json(dict(record.ingredients)),
                    record.started_ns,
                    record.ended_ns,
                    record.build_id,
                    time.time_ns(),
                ),
            )
            db.execute(
                "DELETE FROM records WHERE key = ? AND id NOT IN"
                " (SELECT id FROM records WHERE key = ? ORDER BY id DESC LIMIT ?)",
                (record.key, record.key, RESULTS_PER_KEY),
            )
            checkpoint("record-written")
        checkpoint("record-inserted")

    def touch(self, *keys: Digest) -> None:
        """Note that the results of `keys` were used now, in one transaction."""
        if not keys:
            return
        now_ns = time.time_ns()
        with self.writing() as db:
            db.executemany(
                "UPDATE records SET used_ns = ?, uses = uses + 1 WHERE key = ? AND held",
                [(now_ns, key) for key in keys],
            )

    def list(self) -> _Records:
        """Return every record, oldest first."""
        return self.sound(self.read(f"SELECT {RECORD} FROM records ORDER BY id"), record_of)

    def makers(self, diff_id: DiffID) -> _Records:
        """Return the records of the steps that made a layer, oldest first."""
        rows = self.read(
            f"SELECT {RECORD} FROM records WHERE diff_ids LIKE ? ORDER BY id", (f'%"{diff_id}"%',)
        )
        return self.sound(rows, record_of)

    def diff_ids(self) -> set[DiffID]:
        """Return the layers that records hold: what garbage collection has to keep."""
        rows = self.read("SELECT max(key), diff_ids FROM records WHERE held GROUP BY diff_ids")
        found = self.sound(rows, lambda row: _layers(row[0], row[1]))
        return {diff_id for diff_ids in found for diff_id in diff_ids}

    def has_parent(self, chain: Sequence[DiffID]) -> bool:
        """Tell whether a result that is held was made on exactly this root file system."""
        return self._has_ingredient(f'"parent":{as_json(list(chain))}')

    def has_followers(self, chain: Sequence[DiffID]) -> bool:
        """Tell whether a result that is held was made on this root file system and a layer more."""
        begun = as_json(list(chain))[:-1]
        return self._has_ingredient(f'"parent":{begun}{"," if chain else ""}"')

    def _has_ingredient(self, text: str) -> bool:
        query = "SELECT 1 FROM records WHERE held AND instr(ingredients, ?) LIMIT 1"
        return bool(self.read(query, (text,)))

    def forget(self, keys: Iterable[Digest] | None = None, *, unused_since_ns: int = 0) -> int:
        """Delete records and return how many went.

        keys: only these; None for all. unused_since_ns: only those last used before this moment;
        0 for whatever their age.
        """
        older = "(? = 0 OR used_ns < ?)"
        with self.writing(durable=True) as db:
            before = db.total_changes
            if keys is None:
                db.execute(f"DELETE FROM records WHERE {older}", (unused_since_ns, unused_since_ns))
                db.execute(f"DELETE FROM memos WHERE {older}", (unused_since_ns, unused_since_ns))
            else:
                db.executemany(
                    f"DELETE FROM records WHERE key = ? AND {older}",
                    [(key, unused_since_ns, unused_since_ns) for key in keys],
                )
            return db.total_changes - before

    # -- memos

    def remember(self, namespace: str, key: str, value: str) -> None:
        """Keep `value` under `key`, replacing what was there."""
        with self.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO memos (namespace, key, value, used_ns) VALUES (?, ?, ?, ?)",
                row_values(namespace, key, value, time.time_ns()),
            )

    def recall(self, namespace: str, key: str) -> str | None:
        """Return what was remembered under `key`, or None."""
        rows = self.read(
            "SELECT value FROM memos WHERE namespace = ? AND key = ?", row_values(namespace, key)
        )
        return str(rows[0][0]) if rows else None

    def recall_fields(self, namespace: str, key: str) -> dict[str, object]:
        """Return the JSON object that was remembered under `key`; empty where there is none."""
        return _fields(self.recall(namespace, key) or "{}") or {}

    def downloads(self) -> set[Digest]:
        """Return the blobs that downloads are remembered as (memos of the namespace DOWNLOADS)."""
        rows = self.read("SELECT value FROM memos WHERE namespace = ?", (DOWNLOADS,))
        return {digest for row in rows if (digest := blob_of_download(str(row[0])))}


def diff_ids_on_full_disk(path: str) -> set[DiffID]:
    """Return what `BuildRecords(path).diff_ids()` does, where there is no room to open it.

    The only user of a database keeps the index of its log in memory: the caller has the store to
    itself. Raises InUse when it has not.
    """
    with BuildRecords(path, alone=True) as records:
        return records.diff_ids()


RECORD = (
    "key, diff_ids, created, kind, title, dockerfile, stage, step, ingredients, started_ns,"
    " ended_ns, build_id"
)


_KINDS = (str, str, str, str, str, str, str, int, str, int, int, str)


def record_of(row: "Sequence[Any]") -> BuildRecord:
    """Return the record that the columns RECORD of a row say. Raises Corrupt."""
    key, diff_ids, created, kind, title, dockerfile, stage, step, text, began, ended, build = row
    if not are(_KINDS, row):
        raise _damaged(key)
    layers, ingredients = _layers(key, diff_ids), _fields(text)
    if ingredients is None:
        raise _damaged(key)
    return BuildRecord(
        key=Digest(key),
        diff_ids=layers,
        created=created,
        kind=kind,
        title=title,
        dockerfile=dockerfile,
        stage=stage,
        step=step,
        ingredients=ingredients,
        started_ns=began,
        ended_ns=ended,
        build_id=build,
    )


def blob_of_download(value: str) -> Digest | None:
    """Return the blob that a memo of DOWNLOADS names, None of a damaged one."""
    digest = (_fields(value) or {}).get("digest")
    return Digest(digest) if isinstance(digest, str) and is_digest(digest) else None


def _layers(key: object, text: object) -> tuple[DiffID, ...]:
    try:
        layers = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        layers = None
    if not isinstance(layers, list) or not all(isinstance(x, str) and is_digest(x) for x in layers):
        raise _damaged(key)
    return tuple(map(DiffID, layers))


def _fields(text: str) -> dict[str, object] | None:
    """Return a JSON object, None where the text is none."""
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _damaged(key: object) -> Corrupt:
    return Corrupt(f"build record {key}: damaged", hint="pybuild cache verify drops it")
