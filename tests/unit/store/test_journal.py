"""What of the journal goes, and what stays."""

import os
import time
from pathlib import Path

from store.buildjournal import BuildRow, StepRow
from store.journal import Count, counts, forget_old, heads, remove
from store.root import Store

DAY_NS = 86400 * 10**9


def add(store: Store, name: str, days: int) -> None:
    store.journal.begin_build(BuildRow(name, time.time_ns() - days * DAY_NS, status="done"))
    folder = Path(store.root, "logs", name)
    folder.mkdir()
    (folder / "1.log").write_bytes(b"x" * 5000)


def test_what_is_old_and_not_of_the_newest_goes_with_its_logs(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        for name, days in (("old", 50), ("older", 60), ("new", 1), ("oldest", 70)):
            add(store, name, days)
        os.mkdir(store.folder.path("logs", "of-nobody"))
        assert forget_old(store, 100 * 86400, 0) == 0
        assert os.listdir(store.folder.path("logs")).count("of-nobody") == 0
        assert forget_old(store, 30 * 86400, 2) > 0
        assert [head.build_id for head in heads(store)] == ["new", "old"]
        assert sorted(os.listdir(store.folder.path("logs"))) == ["new", "old"]


def test_a_damaged_record_can_be_seen_and_removed(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        add(store, "b", 1)
        store.journal.add_step(StepRow("b", 1, status="cached"))
        store.journal.add_step(StepRow("b", 2, status="done"))
        assert counts(store) == {"b": Count(2, 1)}
        with store.records.writing() as db:
            db.execute("UPDATE builds SET details = '['")
        assert [head.details for head in heads(store)] == ["["]
        assert remove(store, ["b"]) > 0
        assert heads(store) == []
        assert counts(store) == {}
