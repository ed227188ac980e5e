"""The journal as a whole: which builds it has, what may go, and their logs' folders.

Reads no details, so that one damaged record stands in nobody's way. Owns the removal of builds with
their logs; who wants which builds gone is the caller's business.
"""

import os
import time
from collections.abc import Iterable, Sequence

from store import keptsteps
from store.errors import Corrupt, InUse
from store.root import Store
from values.classes import dataclass

LOGS = "logs"


@dataclass(frozen=True, slots=True)
class Head:
    """What identifies a build of the journal. details: JSON, which may be damaged."""

    build_id: str
    started_ns: int
    status: str
    details: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many steps of a build there are, and how many were cached."""

    steps: int = 0
    cached: int = 0


def heads(store: Store) -> list[Head]:
    """Return all builds of the journal, newest first."""
    rows = store.records.read(
        "SELECT build_id, started_ns, status, details FROM builds"
        " ORDER BY started_ns DESC, rowid DESC"
    )
    return store.records.sound(rows, _head)


def _head(row: Sequence[object]) -> Head:
    build_id, started_ns, status, details = row
    if not isinstance(build_id, str):
        raise Corrupt(
            f"build {build_id!r}: its record in the journal is damaged",
            hint="remove records.db and its -wal and -shm files; only the build cache is lost",
        )
    began_ns = started_ns if isinstance(started_ns, int) else 0
    return Head(build_id, began_ns, str(status), str(details))


def counts(store: Store) -> dict[str, Count]:
    """Return how many steps each build has that has any."""
    rows = store.records.read(
        "SELECT build_id, count(*), sum(status = 'cached') FROM steps GROUP BY build_id"
    )
    return {str(name): Count(int(steps), int(cached)) for name, steps, cached in rows}


def remove(store: Store, build_ids: Iterable[str]) -> int:
    """Delete builds of the journal, their logs and what is kept of them; return the bytes freed.

    Raises InUse while someone is inside of one of their steps.
    """
    names = set(build_ids)
    if not names:
        return 0
    busy = keptsteps.in_use(store, names)
    if busy is not None:
        raise InUse(
            f"remove build {busy.build_id}: its step {busy.number} is entered",
            hint="leave the shell first",
        )
    freed = keptsteps.remove(store, names)
    store.journal.forget_builds(names)
    return freed + sum(store.folder.remove_tree(store.folder.path(LOGS, name)) for name in names)


def forget_old(store: Store, max_age_s: float, max_entries: int) -> int:
    """Delete the builds that are older than `max_age_s` and not of the newest `max_entries`.

    Logs of builds that the journal does not have go too, and what is kept of their steps; builds
    stay while someone is inside of one of their steps. Returns the bytes that freed.
    """
    # Listed first: a build has its row before its folder.
    folders = os.listdir(store.folder.path(LOGS))
    kept = keptsteps.kept_steps(store)
    found = heads(store)
    before_ns = time.time_ns() - int(max_age_s * 1e9)
    old = [head.build_id for head in found[max_entries:] if head.started_ns < before_ns]
    busy = {step.build_id for step in kept if store.snapshots.is_open(step.snapshot)}
    freed = remove(store, (name for name in old if name not in busy))
    known = {head.build_id for head in found}
    freed += keptsteps.remove_unused(store, (k for k in kept if k.build_id not in known))
    orphans = set(folders) - known
    return freed + sum(store.folder.remove_tree(store.folder.path(LOGS, name)) for name in orphans)
