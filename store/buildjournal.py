"""The journal of builds, in `records.db`: what every build did, step by step, as rows.

Refuses to know what the rows' details say. Lists leave damaged rows out; the database names them.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from store.database import Database, are, as_json, marks, row_values
from store.errors import Corrupt
from values.classes import dataclass, field, replace


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

    status: running (also of a build that was killed), cached, done, adopted, failed or cancelled.
    ended_ns: 0 while it runs. log_path: relative to the store's root, empty when the step wrote
    nothing; while it runs there may be no such file. details: JSON values (why it missed, peak
    memory, ...).
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


class BuildJournal:
    """The rows of builds and of their steps."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def begin_build(self, build: BuildRow) -> None:
        """Note that a build has begun."""
        with self._db.writing() as db:
            db.execute(f"INSERT INTO builds ({_BUILD}) VALUES ({marks(9)})", _build_values(build))

    def end_build(self, build: BuildRow) -> None:
        """Replace the row of a build by its final one, and wait until the disk has everything."""
        with self._db.writing(durable=True) as db:
            db.execute(
                f"INSERT OR REPLACE INTO builds ({_BUILD}) VALUES ({marks(9)})",
                _build_values(build),
            )

    def add_step(self, step: StepRow) -> None:
        """Note what a step did; the same number of the same build replaces."""
        with self._db.writing() as db:
            db.execute(
                f"INSERT OR REPLACE INTO steps ({_STEP}) VALUES ({marks(13)})", _step_values(step)
            )

    def add_cached_build(self, build: BuildRow, steps: Iterable[StepRow]) -> None:
        """Note a whole build whose steps were all cached, and that their results were used."""
        rows = list(steps)
        now_ns = time.time_ns()
        with self._db.writing() as db:
            db.execute(f"INSERT INTO builds ({_BUILD}) VALUES ({marks(9)})", _build_values(build))
            db.executemany(
                f"INSERT INTO steps ({_STEP}) VALUES ({marks(13)})", map(_step_values, rows)
            )
            db.executemany(
                "UPDATE records SET used_ns = ?, uses = uses + 1 WHERE key = ? AND held",
                [(now_ns, row.key) for row in rows],
            )

    def builds(self, limit: int = -1) -> list[BuildRow]:
        """Return the journal's builds, newest first; a negative limit means all."""
        rows = self._db.read(
            f"SELECT {_BUILD} FROM builds ORDER BY started_ns DESC, rowid DESC LIMIT ?", (limit,)
        )
        return self._db.sound(rows, _build)

    def builds_of(self, dockerfile: str, limit: int) -> list[BuildRow]:
        """Return the last builds of a Dockerfile, named as the journal does, newest first."""
        rows = self._db.read(
            f"SELECT {_BUILD} FROM builds WHERE dockerfile = ?"
            " ORDER BY started_ns DESC, rowid DESC LIMIT ?",
            row_values(dockerfile, limit),
        )
        return self._db.sound(rows, _build)

    def build(self, build_id: str) -> BuildRow | None:
        """Return one build of the journal, or None. Raises Corrupt."""
        rows = self._db.read(f"SELECT {_BUILD} FROM builds WHERE build_id = ?", (build_id,))
        return _build(rows[0]) if rows else None

    def steps(self, *build_ids: str) -> list[StepRow]:
        """Return the steps of builds in the order of their numbers."""
        places = marks(len(build_ids))
        query = f"SELECT {_STEP} FROM steps WHERE build_id IN ({places}) ORDER BY number"
        return self._db.sound(self._db.read(query, build_ids), _step)

    def recent_steps(self, dockerfile: str, builds: int) -> list[StepRow]:
        """Return the steps that ended well in the last builds of a Dockerfile, newest first."""
        rows = self._db.read(
            f"SELECT {_STEP} FROM steps WHERE status IN ('done', 'adopted') AND build_id IN"
            " (SELECT build_id FROM builds WHERE dockerfile = ? ORDER BY started_ns DESC LIMIT ?)"
            " ORDER BY started_ns DESC",
            row_values(dockerfile, builds),
        )
        return self._db.sound(rows, _step)

    def forget_builds(self, build_ids: Iterable[str]) -> None:
        """Delete builds and their steps from the journal; the log files are the caller's."""
        ids = [(build_id,) for build_id in build_ids]
        with self._db.writing(durable=True) as db:
            db.executemany("DELETE FROM steps WHERE build_id = ?", ids)
            db.executemany("DELETE FROM builds WHERE build_id = ?", ids)


_BUILD = "build_id, started_ns, dockerfile, context, status, ended_ns, image_id, error, details"
_STEP = (
    "build_id, number, title, stage, step, key, status, started_ns, ended_ns, size_bytes,"
    " exit_code, log_path, details"
)


_BUILD_KINDS = (str, int, str, str, str, int, str, str, str)
_STEP_KINDS = (str, int, str, str, int, str, str, int, int, int, int, str, str)


def _build(row: sqlite3.Row) -> BuildRow:
    return replace(BuildRow(*row[:-1]), details=_details(row, _BUILD_KINDS))


def _step(row: sqlite3.Row) -> StepRow:
    return replace(StepRow(*row[:-1]), details=_details(row, _STEP_KINDS))


def _details(row: sqlite3.Row, kinds: Sequence[type]) -> Mapping[str, object]:
    """Return the details of a build or a step of it, its last column. Raises Corrupt."""
    if are(kinds, row):
        with suppress(ValueError):
            details = json.loads(row[-1])
            if isinstance(details, dict):
                return details
    raise Corrupt(
        f"build {row[0]}: its record in the journal is damaged",
        hint=f"pybuild builds rm {row[0]} removes it",
    )


def _build_values(build: BuildRow) -> tuple[object, ...]:
    return row_values(
        build.build_id,
        build.started_ns,
        build.dockerfile,
        build.context,
        build.status,
        build.ended_ns,
        build.image_id,
        build.error,
        as_json(dict(build.details)),
    )


def _step_values(step: StepRow) -> tuple[object, ...]:
    return row_values(
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
        as_json(dict(step.details)),
    )
