"""`records.db`: one SQLite file that many processes and threads read and write at once.

Owns transactions, and the translation of what SQLite says. Refuses to know what the tables are for:
the cache's records (`buildrecords`) and the journal of builds (`buildjournal`) share it.

Every writing transaction is BEGIN IMMEDIATE: a transaction that reads first and then writes would
fail at once with "database is locked", in spite of its time-out. Within a process one connection
serves all threads under a lock.

A row that makes no sense stands in nobody's way: who reads several leaves it out, and it is named.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from store import recordschema
from store.errors import Corrupt, InUse, StoreError, disk_full, is_full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, TypeVar

    _T = TypeVar("_T")

_ERRORS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_BUSY: InUse,
    sqlite3.SQLITE_LOCKED: InUse,
    sqlite3.SQLITE_CANTOPEN: StoreError,
    sqlite3.SQLITE_READONLY: StoreError,
    sqlite3.SQLITE_IOERR: StoreError,
    sqlite3.SQLITE_PERM: StoreError,
}
_UNREADABLE = "Could not decode to UTF-8"
_MAYBE_FULL = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


class Database:
    """`records.db`: an open connection, used as a context manager or closed with `close`."""

    def __init__(
        self,
        path: str,
        *,
        alone: bool = False,
        on_damage: Callable[[Corrupt], None] | None = None,
    ) -> None:
        """Open the database at `path`, making it when absent; `alone`, nobody else may use it.

        on_damage: told of each damaged row that is read; it counts as none.
        Raises NewerFormat when a newer version wrote it, Corrupt when it is no database, DiskFull
        when there is no room for what SQLite makes beside it.
        """
        self.path = path
        self._on_damage = on_damage
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

    def __enter__(self) -> "Self":
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

    def read(self, query: str, parameters: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Return the rows of one query. Text that is no UTF-8 comes as bytes: no row has such."""
        with self._lock, self._translated():
            try:
                return self._db.execute(query, parameters).fetchall()
            except sqlite3.OperationalError as error:
                if not str(error).startswith(_UNREADABLE):
                    raise
            self._db.text_factory = _text_or_bytes
            try:
                return self._db.execute(query, parameters).fetchall()
            finally:
                self._db.text_factory = str

    def sound(
        self, rows: Iterable[sqlite3.Row], reader: "Callable[[sqlite3.Row], _T]"
    ) -> "list[_T]":
        """Return what `reader` makes of rows, but of those that it finds Corrupt."""
        found = []
        for row in rows:
            try:
                found.append(reader(row))
            except Corrupt as error:
                if self._on_damage is not None:
                    self._on_damage(error)
        return found

    def problems(self) -> list[str]:
        """Return what SQLite finds wrong with its file, empty when it is sound."""
        rows = self.read("PRAGMA integrity_check")
        return [str(row[0]) for row in rows if row[0] != "ok"]


def are(kinds: Sequence[type], values: Sequence[object]) -> bool:
    """Tell whether values are of these kinds, one by one: SQLite's columns take any."""
    return len(kinds) == len(values) and all(map(isinstance, values, kinds))


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def marks(count: int) -> str:
    """Return the places of so many values in a statement."""
    return ", ".join("?" * count)


def row_values(*values: object) -> tuple[object, ...]:
    """Return the values of a row. SQLite takes no lone surrogates (bytes that are no UTF-8).

    They become `\\udcff`, so that texts that differ still do.
    """
    return tuple(
        value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for value in values
    )


def as_json(value: object) -> str:
    """Return a value as the database keeps it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
