"""What the build cache's records hold, how it was used, and letting go of it.

A record that is released stays: it says what was made of what, and `lookup` does not find it. Its
layers stay while something else holds them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from store.buildrecords import RECORD, BuildRecord, BuildRecords, record_of
from store.digest import Digest
from store.errors import Corrupt
from values.classes import dataclass

_DAY_NS = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class UsedRecord:
    """A result with the story of its use.

    used_ns: the last time (ns since the epoch). uses: how often, its making included. is_held: the
    cache keeps its layers.
    """

    record: BuildRecord
    used_ns: int
    uses: int
    is_held: bool


@dataclass(frozen=True, slots=True)
class Memo:
    """A small thing remembered: key to value, written or found again at `used_ns`."""

    key: str
    value: str
    used_ns: int


def used_records(records: BuildRecords) -> list[UsedRecord]:
    """Return every record, newest first."""
    rows = records.read(f"SELECT {RECORD}, used_ns, uses, held FROM records ORDER BY id DESC")
    return records.sound(
        rows, lambda row: UsedRecord(record_of(row[:-3]), int(row[-3]), int(row[-2]), bool(row[-1]))
    )


def unsound_records(
    records: BuildRecords, is_sound: Callable[[BuildRecord], bool]
) -> Iterator[tuple[Digest, str]]:
    """Yield key and title of each record that cannot be read or is not sound."""
    for row in records.read(f"SELECT {RECORD}, key, title FROM records ORDER BY id"):
        *columns, key, title = row
        try:
            sound = is_sound(record_of(columns))
        except Corrupt:
            sound = False
        if not sound:
            yield Digest(key), str(title)


def memos(records: BuildRecords, namespace: str) -> list[Memo]:
    """Return what is remembered in a namespace, by its keys."""
    query = "SELECT key, value, used_ns FROM memos WHERE namespace = ? ORDER BY key"
    return [
        Memo(str(key), str(value), int(ns)) for key, value, ns in records.read(query, (namespace,))
    ]


def release(records: BuildRecords, keys: Iterable[Digest]) -> None:
    """Let go of the layers of the results of `keys`, which stay on record."""
    now_ns = time.time_ns()
    with records.writing(durable=True) as db:
        db.executemany(
            "UPDATE records SET held = 0, released_ns = ? WHERE key = ? AND held",
            [(now_ns, key) for key in keys],
        )


def released_ns(records: BuildRecords, key: Digest) -> int | None:
    """Return when the newest result of `key` was let go of (ns since the epoch).

    None while it is held; 0 where nobody noted the time.
    """
    rows = records.read(
        "SELECT held, released_ns FROM records WHERE key = ? ORDER BY id DESC LIMIT 1", (key,)
    )
    return None if not rows or rows[0][0] else int(rows[0][1])


def forget_memos(records: BuildRecords, namespace: str, keys: Iterable[str]) -> None:
    """Forget what is remembered under `keys` in a namespace."""
    with records.writing(durable=True) as db:
        db.executemany(
            "DELETE FROM memos WHERE namespace = ? AND key = ?", [(namespace, key) for key in keys]
        )


def forget_old(records: BuildRecords, days: int) -> None:
    """Delete released records and memos that nobody used for `days`."""
    before_ns = time.time_ns() - days * _DAY_NS
    with records.writing() as db:
        db.execute("DELETE FROM records WHERE NOT held AND used_ns < ?", (before_ns,))
        db.execute("DELETE FROM memos WHERE used_ns < ?", (before_ns,))
