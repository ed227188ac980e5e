import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from builder.dag import build_dag
from builder.errors import BuildError, Canceled, Place, StepsFailed
from builder.graph import BuildGraph, Line, build_graph
from builder.schedule import run_graph
from builder.site import Result
from builder.slots import Slots
from builder.vertex import RunOp, Vertex, VertexID
from runtime.cancel import Cancel
from store.digest import DiffID


def vertex(name: str, *inputs: str) -> Vertex:
    op = RunOp((name,), (), "/", "", "host", "h", "linux/amd64")
    names = tuple(VertexID(source) for source in inputs)
    return Vertex(VertexID(name), op, names, name, name, "", 1, Place("Dockerfile", 1, 1))


def graph(target: str, *vertices: Vertex) -> BuildGraph:
    return build_graph({item.id: item for item in vertices}, VertexID(target))


DIAMOND = (vertex("a"), vertex("b", "a"), vertex("c", "a"), vertex("d", "b", "c"), vertex("x", "a"))


def test_what_the_target_does_not_need_is_pruned() -> None:
    assert set(graph("d", *DIAMOND).vertices) == {"a", "b", "c", "d"}
    assert set(graph("a", *DIAMOND).vertices) == {"a"}


def begun(target: BuildGraph, seconds: dict[str, float]) -> list[str]:
    """Return the vertices in the order in which one slot begins them."""
    order: list[str] = []

    def solve(item: Vertex, _inputs: Sequence[Result]) -> Result:
        order.append(item.id)
        return Result()

    known = {VertexID(name): value for name, value in seconds.items()}
    run_graph(target, solve, Cancel(), Slots(1), known)
    return order


def test_a_line_is_what_the_graph_library_makes_of_it() -> None:
    vertices = (vertex("a"), vertex("b", "a", "a"), vertex("c", "b"), vertex("x", "a"))
    line = graph("c", *vertices)
    assert isinstance(line, Line)
    dag = build_dag({item.id: item for item in vertices}, VertexID("c"))
    assert list(line.vertices) == list(dag.vertices) == ["a", "b", "c"]
    assert line.waiting() == dag.waiting() == {"a": 0, "b": 1, "c": 1}
    assert [line.users(name) for name in line.vertices] == [["b"], ["c"], []]
    assert [dag.users(name) for name in line.vertices] == [["b"], ["c"], []]
    assert (line.has_choice(), line.ranks({})) == (dag.has_choice(), dag.ranks({}))
    assert begun(line, {}) == ["a", "b", "c"]
    assert not isinstance(graph("d", *DIAMOND), Line)


FORK = graph("z", vertex("short"), vertex("l1"), vertex("l2", "l1"), vertex("z", "short", "l2"))


def test_the_longest_way_comes_first() -> None:
    assert begun(FORK, {"l1": 1, "l2": 1, "short": 0.5}) == ["l1", "l2", "short", "z"]
    assert begun(FORK, {"l1": 1, "l2": 1, "short": 9}) == ["short", "l1", "l2", "z"]
    # What counts is what is still to come, not the vertex alone.
    assert begun(FORK, {"l1": 0.1, "l2": 9, "short": 8}) == ["l1", "l2", "short", "z"]


def test_without_durations_the_way_with_more_vertices_comes_first() -> None:
    assert begun(FORK, {}) == ["l1", "short", "l2", "z"]


def test_whether_there_is_a_choice() -> None:
    assert FORK.has_choice()
    assert graph("d", *DIAMOND).has_choice()
    assert not graph("b", *DIAMOND).has_choice()


def test_inputs_come_before_their_users_and_in_their_order() -> None:
    seen: dict[str, list[str]] = {}

    def solve(item: Vertex, inputs: Sequence[Result]) -> Result:
        seen[item.id] = [result.chain[-1] for result in inputs]
        return Result((DiffID(item.id),))

    results = run_graph(graph("d", *DIAMOND), solve, Cancel(), Slots(2))
    assert seen["d"] == ["b", "c"]
    assert set(results) == {"a", "b", "c", "d"}


def test_independent_vertices_run_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=30)

    def solve(item: Vertex, _inputs: Sequence[Result]) -> Result:
        if item.id in ("b", "c"):
            together.wait()
        return Result()

    run_graph(graph("d", *DIAMOND), solve, Cancel(), Slots(2))


def test_a_failure_stops_the_rest_and_is_raised() -> None:
    cancel = Cancel()
    ran = []

    def solve(item: Vertex, _inputs: Sequence[Result]) -> Result:
        ran.append(item.id)
        if item.id == "b":
            raise BuildError("b broke")
        return Result()

    with pytest.raises(BuildError, match="b broke"):
        run_graph(graph("d", *DIAMOND), solve, cancel, Slots(1))
    assert cancel.is_set()
    assert "d" not in ran


def test_all_failures_are_reported_and_cancelled_steps_are_not() -> None:
    together = threading.Barrier(3, timeout=30)
    flat = graph("z", vertex("a"), vertex("b"), vertex("c"), vertex("z", "a", "b", "c"))

    def solve(item: Vertex, _inputs: Sequence[Result]) -> Result:
        together.wait()
        raise Canceled if item.id == "c" else BuildError(f"{item.id} broke")

    with pytest.raises(StepsFailed) as caught:
        run_graph(flat, solve, Cancel(), Slots(3))
    assert sorted(str(error) for error in caught.value.errors) == ["a broke", "b broke"]


def test_a_bug_is_not_hidden_by_a_failure() -> None:
    def solve(_item: Vertex, _inputs: Sequence[Result]) -> Result:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_graph(graph("a", *DIAMOND), solve, Cancel(), Slots(1))


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Have SIGINT interrupt the main thread, also where our parent ignores it (nohup, `&`)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_in_the_main_thread_cancels() -> None:
    cancel = Cancel()
    main = threading.get_ident()

    def solve(_item: Vertex, _inputs: Sequence[Result]) -> Result:
        # Not while it starts threads: an interrupt then may leave a lock of theirs taken for ever.
        while sys._current_frames()[main].f_code.co_name != "work":
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGINT)
        select.select([cancel.fd], [], [])
        return Result()

    with pytest.raises(KeyboardInterrupt):
        run_graph(graph("a", *DIAMOND), solve, cancel, Slots(1))
    assert cancel.is_set()


def test_a_step_that_waits_lends_its_slot() -> None:
    slots = Slots(1)
    other_ran = threading.Event()
    working: list[str] = []

    def solve(item: Vertex, _inputs: Sequence[Result]) -> Result:
        if item.id == "b":
            with slots.lent():
                assert other_ran.wait(timeout=30)
        assert not working, "one slot, two at work"
        working.append(item.id)
        if item.id == "c":
            other_ran.set()
        working.remove(item.id)
        return Result()

    assert len(run_graph(graph("d", *DIAMOND), solve, Cancel(), slots)) == 4
    assert slots.try_take()
    assert not slots.try_take()


def test_a_step_that_gives_up_waiting_waits_for_no_slot() -> None:
    slots = Slots(1)
    assert slots.try_take()
    with pytest.raises(Canceled), slots.lent():
        assert slots.try_take()
        raise Canceled
    slots.give_back()
    assert not slots.try_take()
    slots.give_back()
    assert slots.try_take()
