"""The build cache's records and the journal of builds: SQLite, `records.db` in the store.

Owns which results a cache key has given, small memos (key to value), and what every build did,
step by step. Refuses to know how keys are computed and where layers lie: a record outlives its
layer's bytes.

Many processes and threads write at once. Every writing transaction is BEGIN IMMEDIATE: a
transaction that reads first and then writes would fail at once with "database is locked", in
spite of its time-out. Within a process one connection serves all threads under a lock.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from store import recordschema
from store.checkpoint import checkpoint
from store.digest import DiffID, Digest
from store.errors import Corrupt, InUse, StoreError, disk_full, is_full
from values.classes import dataclass, field, replace

RESULTS_PER_KEY = 8
DOWNLOADS = "download"  # memos: what is at an address, a JSON object with the blob's `digest`

# Named here because `list` inside the class is its method.
_Rows = list[sqlite3.Row]
_Texts = list[str]


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


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One build in the journal.

    status: running, done, failed or cancelled. ended_ns: 0 while it runs, and for ever when it
    was killed. image_id: empty when none came of it. details: JSON values (target, tags, ...).
    """

    build_id: str
    started_ns: int
    dockerfile: str = ""
    context: str = ""
    status: str = "running"
    ended_ns: int = 0
    image_id: str = ""
    error: str = ""
    details: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a build in the journal.

    status: cached, done, adopted, failed or cancelled. log_path: relative to the store's root,
    empty when the step wrote nothing. details: JSON values (why it missed, peak memory, ...).
    """

    build_id: str
    number: int
    title: str = ""
    stage: str = ""
    step: int = 0
    key: str = ""
    status: str = "done"
    started_ns: int = 0
    ended_ns: int = 0
    size_bytes: int = 0
    exit_code: int = 0
    log_path: str = ""
    details: Mapping[str, object] = field(default_factory=dict, hash=False)


_ERRORS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_BUSY: InUse,
    sqlite3.SQLITE_LOCKED: InUse,
    sqlite3.SQLITE_CANTOPEN: StoreError,
    sqlite3.SQLITE_READONLY: StoreError,
    sqlite3.SQLITE_IOERR: StoreError,
    sqlite3.SQLITE_PERM: StoreError,
}
_MAYBE_FULL = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_Records = list[BuildRecord]
_Builds = list[BuildRow]
_Steps = list[StepRow]


class BuildRecords:
    """`records.db`: an open connection, used as a context manager or closed with `close`."""

    def __init__(self, path: str, *, alone: bool = False) -> None:
        """Open the database at `path`, making it when absent; `alone`, nobody else may use it.

        Raises NewerFormat when a newer version wrote it, Corrupt when it is no database, DiskFull
        when there is no room for what SQLite makes beside it.
        """
        self.path = path
        self._lock = threading.RLock()
        with self._translated():
            self._db = sqlite3.connect(
                path,
                timeout=0 if alone else 60,
                isolation_level=None,
                check_same_thread=False,
            )
            self._db.row_factory = sqlite3.Row
            try:
                if alone:
                    self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
                recordschema.prepare(self._db, path)
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> "BuildRecords":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what SQLite says into the store's errors: the one edge where it happens."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            # SQLite says "disk I/O error" where its log's index finds no room.
            if code == sqlite3.SQLITE_FULL or (code in _MAYBE_FULL and is_full(self.path)):
                raise disk_full(f"build records {self.path}", self.path) from error
            raise _ERRORS.get(code, Corrupt)(f"build records {self.path}: {error}") from error

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Run one writing transaction.

        durable: wait for the disk. WAL frames are written in order, so this also makes every
        earlier transaction durable; the others are safe against a kill, not a power cut.
        """
        with self._lock, self._translated():
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself ends one when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def read(self, query: str, parameters: Sequence[object] = ()) -> _Rows:
        """Return the rows of one query."""
        with self._lock, self._translated():
            rows: _Rows = self._db.execute(query, parameters).fetchall()
            return rows

    # -- results of cache keys

    def lookup(self, key: Digest) -> _Records:
        """Return the results that `key` has given, newest first, at most 8.

        Not those that were released: only explanations need these.
        """
        rows = self.read(
            f"SELECT {RECORD} FROM records WHERE key = ? AND held ORDER BY id DESC", (key,)
        )
        return [record_of(row) for row in rows]

    def newest(self, keys: Iterable[str]) -> tuple[tuple[str, int], ...]:
        """Return those of `keys` that have a result, sorted, each with its newest one's number.

        Released ones do not count. Every result that is recorded has a number of its own.
        """
        wanted = sorted(set(keys))
        query = (
            f"SELECT key, max(id) FROM records WHERE held AND key IN ({_marks(len(wanted))})"
            " GROUP BY key"
        )
        return tuple(sorted((row[0], row[1]) for row in self.read(query, wanted)))

    def every(self, key: str) -> _Records:
        """Return all results on record of `key`, newest first, also those that were released."""
        rows = self.read(f"SELECT {RECORD} FROM records WHERE key = ? ORDER BY id DESC", (key,))
        return [record_of(row) for row in rows]

    def insert(self, record: BuildRecord) -> None:
        """Add a result. The same result of the same key replaces the earlier record."""
        diff_ids = _json(list(record.diff_ids))
        with self.writing() as db:
            db.execute("DELETE FROM records WHERE key = ? AND diff_ids = ?", (record.key, diff_ids))
            db.execute(
                f"INSERT INTO records ({RECORD}, used_ns) VALUES ({_marks(12)}, ?)",
                _values(
                    record.key,
                    diff_ids,
                    record.created,
                    record.kind,
                    record.title,
                    record.dockerfile,
                    record.stage,
                    record.step,
                    _json(dict(record.ingredients)),
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
        return [record_of(row) for row in self.read(f"SELECT {RECORD} FROM records ORDER BY id")]

    def makers(self, diff_id: DiffID) -> _Records:
        """Return the records of the steps that made a layer, oldest first."""
        rows = self.read(
            f"SELECT {RECORD} FROM records WHERE diff_ids LIKE ? ORDER BY id", (f'%"{diff_id}"%',)
        )
        return [record_of(row) for row in rows]

    def diff_ids(self) -> set[DiffID]:
        """Return the layers that records hold: what garbage collection has to keep."""
        rows = self.read("SELECT DISTINCT diff_ids FROM records WHERE held")
        return {DiffID(diff_id) for row in rows for diff_id in json.loads(row[0])}

    def has_parent(self, chain: Sequence[DiffID]) -> bool:
        """Tell whether a result that is held was made on exactly this root file system."""
        return self._has_ingredient(f'"parent":{_json(list(chain))}')

    def has_followers(self, chain: Sequence[DiffID]) -> bool:
        """Tell whether a result that is held was made on this root file system and a layer more."""
        begun = _json(list(chain))[:-1]
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
                _values(namespace, key, value, time.time_ns()),
            )

    def recall(self, namespace: str, key: str) -> str | None:
        """Return what was remembered under `key`, or None."""
        rows = self.read(
            "SELECT value FROM memos WHERE namespace = ? AND key = ?", _values(namespace, key)
        )
        return str(rows[0][0]) if rows else None

    def downloads(self) -> set[Digest]:
        """Return the blobs that downloads are remembered as (memos of the namespace DOWNLOADS)."""
        rows = self.read("SELECT value FROM memos WHERE namespace = ?", (DOWNLOADS,))
        return {Digest(json.loads(row[0])["digest"]) for row in rows}

    # -- journal

    def begin_build(self, build: BuildRow) -> None:
        """Note that a build has begun."""
        with self.writing() as db:
            db.execute(f"INSERT INTO builds ({_BUILD}) VALUES ({_marks(9)})", _build_values(build))

    def end_build(self, build: BuildRow) -> None:
        """Replace the row of a build by its final one, and wait until the disk has everything."""
        with self.writing(durable=True) as db:
            db.execute(
                f"INSERT OR REPLACE INTO builds ({_BUILD}) VALUES ({_marks(9)})",
                _build_values(build),
            )

    def add_step(self, step: StepRow) -> None:
        """Note what a step did; the same number of the same build replaces."""
        with self.writing() as db:
            db.execute(
                f"INSERT OR REPLACE INTO steps ({_STEP}) VALUES ({_marks(13)})", _step_values(step)
            )

    def add_cached_build(self, build: BuildRow, steps: Iterable[StepRow]) -> None:
        """Note a whole build whose steps were all cached, and that their results were used."""
        rows = list(steps)
        now_ns = time.time_ns()
        with self.writing() as db:
            db.execute(f"INSERT INTO builds ({_BUILD}) VALUES ({_marks(9)})", _build_values(build))
            db.executemany(
                f"INSERT INTO steps ({_STEP}) VALUES ({_marks(13)})", map(_step_values, rows)
            )
            db.executemany(
                "UPDATE records SET used_ns = ?, uses = uses + 1 WHERE key = ? AND held",
                [(now_ns, row.key) for row in rows],
            )

    def builds(self, limit: int = -1) -> _Builds:
        """Return the journal's builds, newest first; a negative limit means all."""
        rows = self.read(
            f"SELECT {_BUILD} FROM builds ORDER BY started_ns DESC, rowid DESC LIMIT ?", (limit,)
        )
        return [_build(row) for row in rows]

    def builds_of(self, dockerfile: str, limit: int) -> _Builds:
        """Return the last builds of a Dockerfile, named as the journal does, newest first."""
        rows = self.read(
            f"SELECT {_BUILD} FROM builds WHERE dockerfile = ?"
            " ORDER BY started_ns DESC, rowid DESC LIMIT ?",
            _values(dockerfile, limit),
        )
        return [_build(row) for row in rows]

    def build(self, build_id: str) -> BuildRow | None:
        """Return one build of the journal, or None."""
        rows = self.read(f"SELECT {_BUILD} FROM builds WHERE build_id = ?", (build_id,))
        return _build(rows[0]) if rows else None

    def steps(self, *build_ids: str) -> _Steps:
        """Return the steps of builds in the order of their numbers."""
        marks = _marks(len(build_ids))
        query = f"SELECT {_STEP} FROM steps WHERE build_id IN ({marks}) ORDER BY number"
        return [_step(row) for row in self.read(query, build_ids)]

    def recent_steps(self, dockerfile: str, builds: int) -> _Steps:
        """Return the steps that ended well in the last builds of a Dockerfile, newest first."""
        rows = self.read(
            f"SELECT {_STEP} FROM steps WHERE status IN ('done', 'adopted') AND build_id IN"
            " (SELECT build_id FROM builds WHERE dockerfile = ? ORDER BY started_ns DESC LIMIT ?)"
            " ORDER BY started_ns DESC",
            _values(dockerfile, builds),
        )
        return [_step(row) for row in rows]

    def forget_builds(self, build_ids: Iterable[str]) -> None:
        """Delete builds and their steps from the journal; the log files are the caller's."""
        ids = [(build_id,) for build_id in build_ids]
        with self.writing(durable=True) as db:
            db.executemany("DELETE FROM steps WHERE build_id = ?", ids)
            db.executemany("DELETE FROM builds WHERE build_id = ?", ids)

    def problems(self) -> _Texts:
        """Return what SQLite finds wrong with its file, empty when it is sound."""
        rows = self.read("PRAGMA integrity_check")
        return [str(row[0]) for row in rows if row[0] != "ok"]


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
_BUILD = "build_id, started_ns, dockerfile, context, status, ended_ns, image_id, error, details"
_STEP = (
    "build_id, number, title, stage, step, key, status, started_ns, ended_ns, size_bytes,"
    " exit_code, log_path, details"
)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _values(*values: object) -> tuple[object, ...]:
    """Return the values of a row. SQLite takes no lone surrogates (bytes that are no UTF-8).

    They become `\\udcff`, so that texts that differ still do.
    """
    return tuple(
        value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for value in values
    )


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _build(row: sqlite3.Row) -> BuildRow:
    *values, details = row
    return replace(BuildRow(*values), details=_details(details, row[0]))


def _step(row: sqlite3.Row) -> StepRow:
    *values, details = row
    return replace(StepRow(*values), details=_details(details, row[0]))


def _details(text: str, build_id: str) -> Mapping[str, object]:
    """Return the details of a build or a step of it. Raises Corrupt."""
    try:
        details = json.loads(text)
    except (ValueError, TypeError):
        details = None
    if not isinstance(details, dict):
        raise Corrupt(
            f"build {build_id}: its record in the journal is damaged",
            hint=f"pybuild builds rm {build_id} removes it",
        )
    return details


def record_of(row: Iterable[Any]) -> BuildRecord:
    """Return the record that the columns RECORD of a row say. Raises Corrupt."""
    key, diff_ids, created, kind, title, dockerfile, stage, step, ingredients, *times, build = row
    try:
        layers, known = json.loads(diff_ids), json.loads(ingredients)
    except ValueError as error:
        raise Corrupt(
            f"build record {key}: damaged: {error}", hint="pybuild cache verify drops it"
        ) from error
    return BuildRecord(
        key=Digest(key),
        diff_ids=tuple(map(DiffID, layers)),
        created=created,
        kind=kind,
        title=title,
        dockerfile=dockerfile,
        stage=stage,
        step=int(step),
        ingredients=known,
        started_ns=int(times[0]),
        ended_ns=int(times[1]),
        build_id=build,
    )


def _build_values(build: BuildRow) -> tuple[object, ...]:
    return _values(
        build.build_id,
        build.started_ns,
        build.dockerfile,
        build.context,
        build.status,
        build.ended_ns,
        build.image_id,
        build.error,
        _json(dict(build.details)),
    )


def _step_values(step: StepRow) -> tuple[object, ...]:
    return _values(
        step.build_id,
        step.number,
        step.title,
        step.stage,
        step.step,
        step.key,
        step.status,
        step.started_ns,
        step.ended_ns,
        step.size_bytes,
        step.exit_code,
        step.log_path,
        _json(dict(step.details)),
    )
