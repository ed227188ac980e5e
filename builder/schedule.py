"""Running a build graph: every vertex as soon as its inputs are there, several at once.

Owns threads and their end, and who is next: the vertex with the longest way to the target, by what
its steps took before. The first failure stops what runs; all failures are reported.
"""

import contextlib
import heapq
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue

from builder.errors import BuildError, Canceled, LayersLost, StepsFailed
from builder.graph import BuildGraph
from builder.site import Result
from builder.slots import Slots
from builder.vertex import Vertex, VertexID
from runtime.cancel import Cancel

Solve = Callable[[Vertex, Sequence[Result]], Result]

# Steps mostly wait (for the network, a disk, a server that starts): four of them side by side are
# done sooner than two after two even on two processors, and where all four compute they share.
MIN_JOBS = 4


def default_jobs() -> int:
    """Return how many steps run at once unless a request says otherwise."""
    return max(MIN_JOBS, os.cpu_count() or 1)


def run_graph(
    graph: BuildGraph,
    solve: Solve,
    cancel: Cancel,
    slots: Slots,
    seconds: Mapping[VertexID, float] | None = None,
) -> dict[VertexID, Result]:
    """Solve all vertices and return their results.

    solve: called in a thread with a vertex and its inputs' results, in their order. slots: a
    vertex is begun when one is free. seconds: how long vertices are likely to take.
    Raises the error of the step that failed, StepsFailed for several, Canceled; `cancel` is set
    then, and no step is running any more. An exception in this thread (Ctrl-C) does the same.
    """
    run = _Run(graph, solve, slots, graph.ranks(seconds or {}))
    # Threads are made as they are needed; one that has lent its slot is there besides the others.
    workers = max(1, len(graph.vertices))
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="step") as pool:
        try:
            run.work(pool, cancel)
        except BaseException:
            cancel.set()
            raise
    run.raise_errors()
    return run.results


class _Run:
    """The state of one run of a graph."""

    def __init__(
        self, graph: BuildGraph, solve: Solve, slots: Slots, rank: Mapping[VertexID, int]
    ) -> None:
        self.graph = graph
        self.solve = solve
        self.slots = slots
        self.results: dict[VertexID, Result] = {}
        self.errors: list[BaseException] = []
        self._waiting = graph.waiting()
        self._rank = rank
        self._ready = [(self._rank[v], v) for v, count in self._waiting.items() if count == 0]
        heapq.heapify(self._ready)
        self._running: dict[Future[Result], VertexID] = {}
        # What has happened: a vertex is done, or (None) a slot is free.
        self._news: SimpleQueue[Future[Result] | None] = SimpleQueue()
        slots.on_free = lambda: self._news.put(None)

    def work(self, pool: ThreadPoolExecutor, cancel: Cancel) -> None:
        """Start what is ready and take in what is done, until nothing is left to do."""
        while self._ready or self._running:
            while self._ready and not self.errors and self.slots.try_take():
                # The slot may be that of a vertex that is done: what it made ready may come first.
                self._take_in_what_is_done(cancel)
                if self.errors:
                    self.slots.give_back()
                    break
                self._begin(pool)
            if not self._running and (self.errors or not self._ready):
                return
            self._hear(self._news.get(), cancel)

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        _, name = heapq.heappop(self._ready)
        vertex = self.graph.vertices[name]
        inputs = [self.results[source] for source in vertex.inputs]
        future = pool.submit(self.solve, vertex, inputs)
        self._running[future] = name
        future.add_done_callback(self._done)

    def _done(self, future: "Future[Result]") -> None:
        """Say that a vertex is done, in its thread: before its slot is free, and that it is."""
        self._news.put(future)
        # Here and not in `work`: after Ctrl-C nobody is there, and others wait for the slot.
        self.slots.give_back()
        self._news.put(None)

    def _take_in_what_is_done(self, cancel: Cancel) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._hear(self._news.get_nowait(), cancel)

    def _hear(self, news: "Future[Result] | None", cancel: Cancel) -> None:
        if news is not None:
            self._take_in(news, cancel)

    def _take_in(self, future: "Future[Result]", cancel: Cancel) -> None:
        name = self._running.pop(future)
        error = future.exception()
        if error is not None:
            self.errors.append(error)
            if not isinstance(error, LayersLost):  # that is the end of this run, not of the build
                cancel.set()
            return
        self.results[name] = future.result()
        for user in self.graph.users(name):
            self._waiting[user] -= 1
            if self._waiting[user] == 0:
                heapq.heappush(self._ready, (self._rank[user], user))

    def raise_errors(self) -> None:
        """Raise what failed: the error itself when it is one, a bug's own exception first."""
        lost = [error for error in self.errors if isinstance(error, LayersLost)]
        others = (error for error in self.errors if error not in lost)
        failures = [error for error in others if not isinstance(error, Canceled)]
        for error in failures:
            if not isinstance(error, BuildError):
                raise error
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise StepsFailed([error for error in failures if isinstance(error, BuildError)])
        if lost and len(lost) == len(self.errors):
            diff_ids = [diff_id for error in lost for diff_id in error.diff_ids]
            raise LayersLost(diff_ids, str(lost[0]).partition(": ")[2])
        if self.errors:
            raise next(error for error in self.errors if isinstance(error, Canceled))
