from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from store.buildjournal import BuildJournal, BuildRow, StepRow
from store.database import Database


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[BuildJournal]:
    with Database(str(tmp_path / "records.db")) as database:
        yield BuildJournal(database)


def test_rows_of_builds_and_steps(journal: BuildJournal) -> None:
    first = BuildRow("b1", 1, dockerfile="D", details={"tags": ["x"]})
    second = BuildRow("b2", 2)
    journal.begin_build(first)
    journal.begin_build(second)
    step = StepRow("b1", 1, title="RUN x", details={"why": "new"})
    journal.add_step(replace(step, number=2))
    journal.add_step(step)
    done = replace(first, status="done", ended_ns=9, image_id="sha256:1")
    journal.end_build(done)
    assert journal.builds() == [second, done]
    assert journal.builds(1) == [second]
    assert journal.build("b1") == done
    assert journal.build("b3") is None
    assert journal.steps("b1") == [step, replace(step, number=2)]
    journal.forget_builds(["b1"])
    assert journal.builds() == [second]
    assert journal.steps("b1") == []


def test_text_that_is_no_utf8(journal: BuildJournal) -> None:
    text = "dir\udcff"
    journal.begin_build(BuildRow("b1", 1, dockerfile=text, context=text, details={"x": text}))
    journal.add_step(StepRow("b1", 1, title=text, details={"x": text}))
    assert journal.builds()[0].context == "dir\\udcff"
    assert journal.steps("b1")[0].details == {"x": text}
