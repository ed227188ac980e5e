import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from store.buildrecords import DOWNLOADS, BuildRecord, BuildRecords
from store.cacheusage import forget_memos, forget_old, memos, release, used_records
from store.digest import DiffID, digest_of
from store.errors import Corrupt, NewerFormat


def layer(number: int) -> DiffID:
    return DiffID(digest_of(b"layer %d" % number))


KEY = digest_of(b"key")
RECORD = BuildRecord(
    KEY,
    (layer(0),),
    created="2024-01-01T00:00:00Z",
    kind="run",
    title="RUN make",
    dockerfile="/x/Dockerfile",
    stage="build",
    step=3,
    ingredients={"argv": ["make"], "files": {"a": "sha256:1"}},
    started_ns=1,
    ended_ns=2,
    build_id="b1",
)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[BuildRecords]:
    with BuildRecords(str(tmp_path / "records.db")) as records:
        yield records


def test_insert_and_lookup(records: BuildRecords) -> None:
    assert records.lookup(KEY) == []
    records.insert(RECORD)
    assert records.lookup(KEY) == [RECORD]
    assert records.list() == [RECORD]


def test_lookup_is_newest_first_and_bounded(records: BuildRecords) -> None:
    for number in range(10):
        records.insert(replace(RECORD, diff_ids=(layer(number),)))
    assert [record.diff_ids for record in records.lookup(KEY)] == [
        (layer(number),) for number in range(9, 1, -1)
    ]


def test_same_result_replaces(records: BuildRecords) -> None:
    records.insert(RECORD)
    records.insert(replace(RECORD, diff_ids=(layer(1),)))
    records.insert(replace(RECORD, build_id="b2"))
    assert [record.build_id for record in records.lookup(KEY)] == ["b2", "b1"]


def test_memos(records: BuildRecords) -> None:
    assert records.recall("n", "k") is None
    records.remember("n", "k", "1")
    records.remember("n", "k", "2")
    records.remember("m", "k", "3")
    assert records.recall("n", "k") == "2"


def test_forget_by_last_use(records: BuildRecords) -> None:
    other = digest_of(b"other")
    records.insert(RECORD)
    records.insert(replace(RECORD, key=other, diff_ids=(layer(1), layer(2))))
    assert records.diff_ids() == {layer(0), layer(1), layer(2)}
    (moment,) = records.read("SELECT max(used_ns) FROM records")
    records.touch(KEY)
    assert records.forget(unused_since_ns=moment[0] + 1) == 1
    assert records.list() == [RECORD]
    assert records.forget([other]) == 0
    assert records.forget([KEY]) == 1
    assert records.diff_ids() == set()


def test_an_exception_rolls_back(records: BuildRecords) -> None:
    with pytest.raises(TypeError):
        records.insert(replace(RECORD, ingredients={"x": object()}))
    with pytest.raises(Corrupt):
        records.insert(replace(RECORD, title=None))  # type: ignore[arg-type]
    assert records.list() == []
    records.insert(RECORD)
    assert records.list() == [RECORD]


def test_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    BuildRecords(str(path)).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(NewerFormat, match="version 99"):
        BuildRecords(str(path))


def test_damage_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    path.write_bytes(b"no database at all, but long enough to be read as one" * 100)
    with pytest.raises(Corrupt, match=r"records\.db"):
        BuildRecords(str(path))


def test_integrity(records: BuildRecords) -> None:
    records.insert(RECORD)
    assert records.problems() == []


def test_threads_share_one_object(records: BuildRecords) -> None:
    def work(start: int) -> None:
        for number in range(start, start + 20):
            record = replace(RECORD, key=digest_of(b"%d" % number))
            records.insert(record)
            assert records.lookup(record.key) == [record]

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 100, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records.list()) == 100


INSERT_MANY = """
import sys
from store.buildrecords import BuildRecord, BuildRecords
from store.digest import digest_of

start = int(sys.argv[2])
with BuildRecords(sys.argv[1]) as records:
    for number in range(start, start + 25):
        records.insert(BuildRecord(digest_of(b"%d" % number), ()))
"""


def test_a_transaction_that_reads_first_waits_its_turn(records: BuildRecords) -> None:
    """SQLite refuses a write after a read when another process has written in between."""
    with BuildRecords(records.path) as others:
        writer = threading.Thread(target=others.insert, args=(RECORD,))
        with records.writing() as db:
            db.execute("SELECT count(*) FROM records").fetchone()
            writer.start()
            writer.join(0.2)  # it waits for us; a writer that did not would be done by now
            db.execute("DELETE FROM memos")
            db.execute("INSERT INTO memos VALUES ('n', 'k', 'v', 0)")
        writer.join()
        assert others.recall("n", "k") == "v"
        assert others.lookup(KEY) == [RECORD]


def test_processes_write_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "records.db")
    command = [sys.executable, "-c", INSERT_MANY, path]
    workers = [subprocess.Popen([*command, str(start)]) for start in range(0, 100, 25)]
    assert [worker.wait() for worker in workers] == [0] * 4
    with BuildRecords(path) as records:
        assert len(records.list()) == 100


def test_text_that_is_no_utf8(records: BuildRecords) -> None:
    text, other = "dir\udcff", "dir\udcfe"
    records.insert(replace(RECORD, dockerfile=text, title=text, ingredients={"files": {text: 1}}))
    records.remember("download", text, "1")
    records.remember("download", other, "2")
    assert records.recall("download", text) == "1"
    assert records.lookup(KEY)[0].ingredients == {"files": {text: 1}}


VERSION_1 = """
CREATE TABLE records (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL,
  diff_ids TEXT NOT NULL, created TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL,
  dockerfile TEXT NOT NULL, stage TEXT NOT NULL, step INTEGER NOT NULL,
  ingredients TEXT NOT NULL, started_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL,
  build_id TEXT NOT NULL, used_ns INTEGER NOT NULL);
CREATE TABLE memos (namespace TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
  used_ns INTEGER NOT NULL, PRIMARY KEY (namespace, key)) WITHOUT ROWID;
PRAGMA user_version=1;
"""


def test_an_older_version_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    db = sqlite3.connect(path)
    db.executescript(VERSION_1)
    values = (KEY, json.dumps([layer(0)]), "", "run", "RUN make", "", "", 1, "{}", 1, 2, "b1", 7)
    db.execute(f"INSERT INTO records VALUES (NULL, {', '.join('?' * 13)})", values)
    db.commit()
    db.close()
    with BuildRecords(str(path)) as records:
        (old,) = used_records(records)
        assert (old.record.title, old.used_ns, old.uses, old.is_held) == ("RUN make", 7, 1, True)
        assert records.lookup(KEY) == [old.record]
    BuildRecords(str(path)).close()


def test_a_released_record_stays_and_is_not_found(records: BuildRecords) -> None:
    records.insert(RECORD)
    records.touch(KEY)
    release(records, [KEY])
    assert records.lookup(KEY) == []
    assert records.diff_ids() == set()
    (old,) = used_records(records)
    assert (old.record, old.uses, old.is_held) == (RECORD, 2, False)
    records.touch(KEY)
    assert used_records(records) == [old]
    # Made again it is held again, and there is one of it.
    records.insert(RECORD)
    assert records.lookup(KEY) == [RECORD]
    assert [used.is_held for used in used_records(records)] == [True]


def test_old_things_are_forgotten(records: BuildRecords) -> None:
    records.insert(RECORD)
    records.insert(replace(RECORD, key=digest_of(b"held"), diff_ids=(layer(1),)))
    records.remember("x", "a", "1")
    release(records, [KEY])
    forget_old(records, 1)
    assert len(records.list()) == 2
    forget_old(records, -1)
    assert [record.key for record in records.list()] == [digest_of(b"held")]
    assert memos(records, "x") == []


def test_memos_of_a_namespace(records: BuildRecords) -> None:
    for key in "ab":
        records.remember("x", key, key.upper())
    records.remember("y", "a", "Y")
    assert [(memo.key, memo.value) for memo in memos(records, "x")] == [("a", "A"), ("b", "B")]
    forget_memos(records, "x", ["a", "c"])
    assert records.recall("x", "a") is None
    assert (records.recall("x", "b"), records.recall("y", "a")) == ("B", "Y")


def test_downloads_are_the_blobs_of_their_memos(records: BuildRecords) -> None:
    blob = digest_of(b"file")
    records.remember(DOWNLOADS, "https://example.org/x", json.dumps({"digest": blob}))
    assert records.downloads() == {blob}
