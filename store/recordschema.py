"""The tables of `records.db`, their version, and the way from older versions to this one."""

import sqlite3
import time

from store.errors import NewerFormat

VERSION = 3
_STEPS = {
    # How often a record was used, and whether the cache still holds its layers.
    1: """
ALTER TABLE records ADD COLUMN uses INTEGER NOT NULL DEFAULT 1;
ALTER TABLE records ADD COLUMN held INTEGER NOT NULL DEFAULT 1;
""",
    # When the cache let go of a record's layers.
    2: """
ALTER TABLE records ADD COLUMN released_ns INTEGER NOT NULL DEFAULT 0;
""",
}
_WAL_ATTEMPTS = 500

_TABLES = """
CREATE TABLE records (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL,
  diff_ids TEXT NOT NULL,
  created TEXT NOT NULL,
  kind TEXT NOT NULL,
  title TEXT NOT NULL,
  dockerfile TEXT NOT NULL,
  stage TEXT NOT NULL,
  step INTEGER NOT NULL,
  ingredients TEXT NOT NULL,
  started_ns INTEGER NOT NULL,
  ended_ns INTEGER NOT NULL,
  build_id TEXT NOT NULL,
  used_ns INTEGER NOT NULL,
  uses INTEGER NOT NULL DEFAULT 1,
  held INTEGER NOT NULL DEFAULT 1,
  released_ns INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX records_by_key ON records (key);
CREATE INDEX records_by_place ON records (dockerfile, stage, step);
CREATE TABLE memos (
  namespace TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  used_ns INTEGER NOT NULL,
  PRIMARY KEY (namespace, key)
) WITHOUT ROWID;
CREATE TABLE builds (
  build_id TEXT PRIMARY KEY,
  started_ns INTEGER NOT NULL,
  dockerfile TEXT NOT NULL,
  context TEXT NOT NULL,
  status TEXT NOT NULL,
  ended_ns INTEGER NOT NULL,
  image_id TEXT NOT NULL,
  error TEXT NOT NULL,
  details TEXT NOT NULL
);
CREATE TABLE steps (
  build_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  title TEXT NOT NULL,
  stage TEXT NOT NULL,
  step INTEGER NOT NULL,
  key TEXT NOT NULL,
  status TEXT NOT NULL,
  started_ns INTEGER NOT NULL,
  ended_ns INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  exit_code INTEGER NOT NULL,
  log_path TEXT NOT NULL,
  details TEXT NOT NULL,
  PRIMARY KEY (build_id, number)
);
"""


def prepare(db: sqlite3.Connection, path: str) -> None:
    """Make the tables of a new database; check the version of an old one.

    Raises NewerFormat when a newer version wrote it.
    """
    if _version(db) == VERSION:
        return
    _use_wal(db)
    db.execute("BEGIN IMMEDIATE")
    try:
        _migrate(db, _version(db), path)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _use_wal(db: sqlite3.Connection) -> None:
    """Change the journal mode, which is kept in the file.

    SQLite does not wait here when another process is doing the same: it says "database is locked"
    at once, and the mode is then as wished in a moment.
    """
    for _ in range(_WAL_ATTEMPTS):
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            time.sleep(0.01)
        else:
            return
    db.execute("PRAGMA journal_mode=WAL")


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def _migrate(db: sqlite3.Connection, version: int, path: str) -> None:
    if version > VERSION:
        raise NewerFormat(
            f"build records {path} have version {version}, this program knows {VERSION}",
            hint="use a newer pybuild",
        )
    if version == VERSION:
        return  # another process was faster
    todo = [_TABLES] if version == 0 else [_STEPS[step] for step in range(version, VERSION)]
    for statement in "".join(todo).split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version={VERSION}")
