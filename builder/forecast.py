"""What a build would do, step by step, without doing it: hit, miss or unknown, and why.

Goes through the graph as a build does, with the same keys, and asks the same questions of the same
cache. Runs nothing, records nothing, pulls no layer that a key does not need the files of.

What a RUN that misses will leave is not known before it has run, so what stands on it may be
unknown: it may leave what it left before. Everything else is exact. A COPY that misses has a known
result: where a record could follow on it, or its files are copied from, it is made and thrown away.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal

from builder.absent import Absent
from builder.cache import Key, look_up, make_key
from builder.causes import Cause
from builder.durations import recorded_seconds
from builder.errors import ContextChanged, InstructionError, LayersLost
from builder.export.destinations import check_outputs
from builder.graph import BuildGraph, build_graph
from builder.ops.registry import describe, perform
from builder.policy import refused_always, runs_always
from builder.ready import Ready, Start, lock_of, platforms_of, read_definition
from builder.remotecache.places import check_places
from builder.request import BuildRequest
from builder.site import Progress, Result, Site, origin_of
from builder.solve import KINDS, explained, linked, placed, usable
from builder.sourcetree import opened_source
from builder.supplies import supplies_of
from builder.tree import FileChanged
from builder.vertex import BaseOp, DownloadOp, GitOp, LinkOp, RunOp, Vertex, VertexID
from runtime.cancel import Cancel
from store import gc
from store.buildrecords import BuildRecord
from store.digest import DiffID, Digest, digest_of
from store.errors import NotStorable
from store.root import Store
from values.classes import dataclass

State = Literal["hit", "miss", "unknown"]


@dataclass(frozen=True, slots=True)
class StepForecast:
    """What one step would come to.

    causes: why it would miss, or why nobody can know; none for a hit. seconds: how long it took
    when it last ran, None where no build of this Dockerfile ran it.
    """

    vertex: Vertex
    state: State
    causes: tuple[Cause, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a build would do. steps: inputs before their users.

    pull_bytes: of layers that are not here and would be fetched, as they lie at their registry.
    least_seconds, most_seconds: the longest way through the steps that miss, and through those that
    may; steps that never ran count nothing.
    """

    dockerfile: str
    steps: tuple[StepForecast, ...]
    pull_bytes: int
    least_seconds: float
    most_seconds: float

    def count(self, state: State) -> int:
        """Return how many steps are in a state."""
        return sum(step.state == state for step in self.steps)


def forecast(store: Store, request: BuildRequest, cancel: Cancel) -> Forecast:
    """Return what building `request` would do.

    Raises what a build of it raises where that is found without running anything.
    """
    platforms_wanted = platforms_of(request)
    check_outputs(request)
    check_places(request)
    locked = lock_of(request)
    silent = Progress(lambda _event: None)
    scratch: set[DiffID] = set()
    try:
        with (
            store.lease(),
            supplies_of(store, request) as supplies,
            opened_source(store, request, silent, cancel, supplies.secrets, locked) as source,
            ExitStack() as stack,
        ):
            definition = read_definition(store, request, source, silent)
            start = Start(
                store,
                request,
                platforms_wanted,
                definition,
                supplies,
                silent,
                cancel,
                locked=locked,
            )
            ready = start.ready(stack, lazily=True, absent=Absent(store))
            return _Forecaster(ready, request, scratch).run()
    finally:
        gc.discard(store, layers=scratch)


class _Forecaster:
    """Forecasts one build. scratch: takes the layers that it made and nothing else needs."""

    def __init__(self, ready: Ready, request: BuildRequest, scratch: set[DiffID]) -> None:
        self.site: Site = ready.site
        self.request = request
        self.roots = [root for plan in ready.plans for root in plan.roots]
        self.graph: BuildGraph = build_graph(ready.plans[0].vertices, *self.roots)
        self.scratch = scratch
        self._known_layers: frozenset[DiffID] | None = None
        self.read = _read_vertices(self.graph.vertices)
        self._begin()

    def _begin(self) -> None:
        self.results: dict[VertexID, Result] = {}
        self.states: dict[VertexID, tuple[State, tuple[Cause, ...]]] = {}
        # Of what cannot be known: the name of the step that it depends on.
        self.depends: dict[VertexID, str] = {}
        self.imaginary: dict[DiffID, str] = {}
        self.running: dict[Digest, VertexID] = {}

    def run(self) -> Forecast:
        """Forecast every vertex. Raises BuildError."""
        while True:
            try:
                for vertex in self.graph.vertices.values():
                    self._solve(vertex)
                break
            except LayersLost as lost:
                self.site.absent.give_up(map(DiffID, lost.diff_ids))
                self._begin()
        seconds = recorded_seconds(
            self.site.store, self.site.journal_name, self.graph.vertices.values()
        )
        steps = tuple(
            StepForecast(vertex, *self.states[vertex.id], seconds.get(vertex.id))
            for vertex in self.graph.vertices.values()
            if not isinstance(vertex.op, LinkOp) and vertex.op != BaseOp(())
        )
        return Forecast(
            self.site.journal_name,
            steps,
            self._pull_bytes(),
            self._longest(seconds, {"miss"}),
            self._longest(seconds, {"miss", "unknown"}),
        )

    # -- one vertex

    def _solve(self, vertex: Vertex) -> None:
        match vertex.op:
            case BaseOp(chain, created):
                self._is(vertex, "hit", Result(chain, created, origin=origin_of(vertex, ())))
            case DownloadOp():
                # requests takes 100 ms to import.
                from builder.ops.remote import fetch

                # Its bytes are here then. Whether they changed is told by the step that takes them.
                self._is(vertex, "hit", fetch(vertex.op, vertex, self.site))
            case LinkOp():
                self._link(vertex)
            case _:
                self._layer(vertex)

    def _is(
        self, vertex: Vertex, state: State, result: Result, causes: tuple[Cause, ...] = ()
    ) -> None:
        self.states[vertex.id] = state, causes
        self.results[vertex.id] = result

    def _link(self, vertex: Vertex) -> None:
        unknown = next((item for item in vertex.inputs if item in self.depends), None)
        if unknown is not None:
            self.depends[vertex.id] = self.depends[unknown]
            self.states[vertex.id] = "unknown", ()
            return
        self._is(vertex, "hit", linked(*(self.results[item] for item in vertex.inputs)))

    def _layer(self, vertex: Vertex) -> None:
        if isinstance(vertex.op, GitOp):
            from builder.ops import git  # noqa: F401  importing registers it
        behind = self._behind(vertex)
        if behind is not None:
            self._cannot_know(vertex, behind)
            return
        inputs = [self.results[item] for item in vertex.inputs]
        try:
            with placed(vertex):
                ingredients = explained(
                    describe(vertex.op, vertex, inputs, self.site), vertex, inputs
                )
        except FileChanged as error:
            raise ContextChanged(error.path) from error
        kind = KINDS[type(vertex.op)]
        key = make_key(kind, inputs[0].chain, vertex.platform, ingredients)
        twin = None if runs_always(vertex) else self.running.get(key.digest)
        if twin is not None:
            self._like(vertex, twin)
            return
        record = None if runs_always(vertex) else self._found(vertex, key)
        if record is not None:
            chain = *inputs[0].chain, *record.diff_ids
            result = Result(chain, record.created, origin=origin_of(vertex, inputs))
            self._is(vertex, "hit", result)
            return
        self.running[key.digest] = vertex.id
        self._missed(vertex, inputs, self.site.causes(vertex, key, inputs))

    def _like(self, vertex: Vertex, twin: VertexID) -> None:
        """Forecast a vertex that takes what another one with the same key will have made."""
        self.states[vertex.id] = "hit", ()
        if twin in self.depends:
            self.depends[vertex.id] = self.depends[twin]
        else:
            self.results[vertex.id] = self.results[twin]

    def _found(self, vertex: Vertex, key: Key) -> BuildRecord | None:
        accepts = usable(vertex, self.site)
        record = look_up(self.site.store, key, touching=False, accepts=accepts)
        if record is not None or self.site.imports is None:
            return record
        answer = self.site.imports.look_up(key)
        return answer[0] if answer is not None and accepts(answer[0]) else None

    # -- misses

    def _missed(self, vertex: Vertex, inputs: Sequence[Result], causes: tuple[Cause, ...]) -> None:
        """Find out what stands for the result of a vertex that will run."""
        below = inputs[0].chain
        if any(diff_id in self.imaginary for diff_id in below):
            self._imagined(vertex, inputs, causes)
            return
        may_follow = self._may_follow(vertex, below)
        if isinstance(vertex.op, RunOp) and may_follow:
            self.states[vertex.id] = "miss", causes
            self.depends[vertex.id] = vertex.name
            return
        if not isinstance(vertex.op, RunOp) and (may_follow or vertex.id in self.read):
            chain = *below, self._made(vertex, inputs)
            result = Result(chain, origin=origin_of(vertex, inputs, causes))
            self._is(vertex, "miss", result, causes)
            return
        self._imagined(vertex, inputs, causes)

    def _may_follow(self, vertex: Vertex, below: Sequence[DiffID]) -> bool:
        """Tell whether a record may stand on what a vertex makes on `below`."""
        if self.site.imports is not None:
            return True
        if any(isinstance(self.graph.vertices[u].op, LinkOp) for u in self.graph.users(vertex.id)):
            return True
        return self.site.store.records.has_followers(below)

    def _made(self, vertex: Vertex, inputs: Sequence[Result]) -> DiffID:
        """Return the layer that a vertex makes, by making it."""
        for source in inputs:
            self.site.absent.need(source.chain)
        step = self.site.progress.begin(vertex.name)
        known = self._layers_before()
        try:
            with placed(vertex):
                made = perform(vertex.op, vertex, inputs, self.site, step)
        except FileChanged as error:
            raise ContextChanged(error.path) from error
        except NotStorable as error:
            raise InstructionError(vertex.place, str(error), hint=error.hint) from error
        if made.diff_id not in known:
            self.scratch.add(made.diff_id)
        return made.diff_id

    def _layers_before(self) -> frozenset[DiffID]:
        """Return the layers that were here when the first one was made; these stay in any case."""
        if self._known_layers is None:
            self._known_layers = frozenset(self.site.store.layers.iter())
        return self._known_layers

    # -- what stands on a RUN that misses

    def _behind(self, vertex: Vertex) -> str | None:
        """Return the step whose files a key needs and nobody has; None if there is none."""
        for item in vertex.inputs:
            if item in self.depends:
                return self.depends[item]
        for item in vertex.inputs[1:]:
            for diff_id in self.results[item].chain:
                if diff_id in self.imaginary:
                    return self.imaginary[diff_id]
        return None

    def _cannot_know(self, vertex: Vertex, behind: str) -> None:
        """Forecast a vertex without its key."""
        first = self.results.get(vertex.inputs[0])
        if runs_always(vertex):
            cause = refused_always(vertex)
        elif first is not None and not self._may_stand_on(first.chain):
            cause = Cause("follows", f"follows {behind}", None, behind)
        else:
            self.states[vertex.id] = (
                "unknown",
                (Cause("unknown", f"depends on what {behind} makes"),),
            )
            self.depends[vertex.id] = behind
            return
        if first is None or self._may_follow(vertex, first.chain):
            self.states[vertex.id] = "miss", (cause,)
            self.depends[vertex.id] = vertex.name if isinstance(vertex.op, RunOp) else behind
            return
        inputs = [self.results[item] for item in vertex.inputs if item in self.results]
        self._imagined(vertex, inputs, (cause,))

    def _imagined(
        self, vertex: Vertex, inputs: Sequence[Result], causes: tuple[Cause, ...]
    ) -> None:
        """Give a vertex that misses a result of its own: no record stands on it."""
        diff_id = DiffID(digest_of(f"forecast of {vertex.id}".encode()))
        self.imaginary[diff_id] = vertex.name
        chain = *inputs[0].chain, diff_id
        self._is(vertex, "miss", Result(chain, origin=origin_of(vertex, inputs, causes)), causes)

    def _may_stand_on(self, chain: Sequence[DiffID]) -> bool:
        return self.site.imports is not None or self.site.store.records.has_parent(chain)

    # -- what it costs

    def _pull_bytes(self) -> int:
        needed: set[DiffID] = set()
        lazily = bool(self.request.cache_from)
        for vertex in self.graph.vertices.values():
            if isinstance(vertex.op, BaseOp) and not lazily:
                needed.update(vertex.op.chain)
            elif self.states[vertex.id][0] == "miss":
                for item in vertex.inputs:
                    if item in self.results:
                        needed.update(self.results[item].chain)
        if not all(output.type == "registry" for output in check_outputs(self.request)):
            for root in self.roots:
                if root in self.results:
                    needed.update(self.results[root].chain)
        return sum(map(self._absent_bytes, needed))

    def _absent_bytes(self, diff_id: DiffID) -> int:
        if self.site.store.layers.has(diff_id):
            return 0
        origins = self.site.absent.origins(diff_id)
        return origins[0].blob.size_bytes if origins else 0

    def _longest(self, seconds: Mapping[VertexID, float], states: set[str]) -> float:
        """Return how long the longest way through the steps in these states takes."""
        ends: dict[VertexID, float] = {}
        for vertex in self.graph.vertices.values():
            own = seconds.get(vertex.id, 0.0) if self.states[vertex.id][0] in states else 0.0
            ends[vertex.id] = own + max((ends[item] for item in vertex.inputs), default=0.0)
        return max(ends.values(), default=0.0)


def _read_vertices(vertices: Mapping[VertexID, Vertex]) -> set[VertexID]:
    """Return the vertices of whose root file system some key needs the files."""
    found: set[VertexID] = set()
    todo = list(_sources(vertices))
    while todo:
        item = todo.pop()
        if item in found:
            continue
        found.add(item)
        below = vertices[item]
        # What it stands on is in its files; what it only read is not.
        todo += below.inputs if isinstance(below.op, LinkOp) else below.inputs[:1]
    return found


def _sources(vertices: Mapping[VertexID, Vertex]) -> Iterator[VertexID]:
    for vertex in vertices.values():
        if not isinstance(vertex.op, LinkOp):
            yield from vertex.inputs[1:]
