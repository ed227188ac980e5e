"""Past builds say how long steps take."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.durations import expected_seconds
from builder.errors import Place
from builder.vertex import BaseOp, CopyOp, Op, RunOp, Vertex, VertexID
from store.buildjournal import BuildRow, StepRow
from store.root import Store

RUN = RunOp(("make",), (), "/", "", "host", "h", "linux/amd64")
COPY = CopyOp((), "/")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def vertex(title: str, stage: str = "a", step: int = 1, op: Op = RUN) -> Vertex:
    return Vertex(VertexID(title), op, (), title, title, stage, step, Place("Dockerfile", 1, 1))


def build(store: Store, number: int, *steps: tuple[str, str, int, float, str]) -> None:
    """Journal a build whose steps are (title, stage, step, seconds, status)."""
    name = f"b{number}"
    store.journal.begin_build(BuildRow(name, number, "/x/Dockerfile"))
    for count, (title, stage, step, seconds, status) in enumerate(steps):
        begun = number * 10**12 + count
        ended = begun + int(seconds * 1e9)
        row = StepRow(name, count, title, stage, step, "", status, begun, ended)
        store.journal.add_step(row)


def seconds(store: Store, wanted: Vertex, dockerfile: str = "/x/Dockerfile") -> float:
    return expected_seconds(store, dockerfile, [wanted])[wanted.id]


def test_the_newest_run_of_the_same_step_counts(store: Store) -> None:
    build(store, 1, ("RUN make", "a", 1, 9, "done"))
    build(store, 2, ("RUN make", "a", 1, 5, "done"), ("RUN make", "b", 1, 7, "done"))
    build(store, 3, ("RUN make", "a", 1, 1, "failed"), ("RUN make", "a", 1, 0, "cached"))
    assert seconds(store, vertex("RUN make")) == 5
    assert seconds(store, vertex("RUN make", "b")) == 7


def test_an_edited_step_is_like_the_one_in_its_place(store: Store) -> None:
    build(store, 1, ("RUN make", "a", 4, 9, "done"), ("RUN test", "a", 5, 3, "adopted"))
    assert seconds(store, vertex("RUN make -j2", "a", 4)) == 9
    assert seconds(store, vertex("RUN test", "other", 7)) == 3


def test_a_new_step_is_like_others_of_its_kind(store: Store) -> None:
    build(store, 1, ("RUN a", "a", 1, 2, "done"), ("RUN b", "a", 2, 4, "done"))
    assert seconds(store, vertex("RUN new", "a", 9)) == 3


def test_nothing_is_known(store: Store) -> None:
    build(store, 1, ("RUN a", "a", 1, 100, "done"))
    unknown = [vertex("FROM x", op=BaseOp(())), vertex("COPY . .", op=COPY), vertex("RUN x")]
    guesses = [seconds(store, item, "/other/Dockerfile") for item in unknown]
    assert guesses == sorted(guesses)
    assert guesses[0] == 0
