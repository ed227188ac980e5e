"""How long the steps of a build are likely to take: what starts the longest path first.

Reads the journal; a wrong guess costs time, never a different result.
"""

from collections.abc import Iterable, Mapping

from builder.vertex import (
    BaseOp,
    CopyOp,
    DownloadOp,
    GitOp,
    LinkOp,
    MakeDirOp,
    Op,
    RunOp,
    Vertex,
    VertexID,
)
from store.buildjournal import StepRow
from store.root import Store

# Seconds of a step that no build of this Dockerfile has run: only their order matters.
_UNKNOWN_S: Mapping[type[Op], float] = {
    BaseOp: 0.0,
    LinkOp: 0.0,
    MakeDirOp: 0.1,
    CopyOp: 1.0,
    DownloadOp: 3.0,
    GitOp: 5.0,
    RunOp: 10.0,
}
_BUILDS = 20


def expected_seconds(
    store: Store, dockerfile: str, vertices: Iterable[Vertex]
) -> dict[VertexID, float]:
    """Return for each vertex how long it is likely to take if it has to run.

    dockerfile: as the journal names it. The newest run of the same instruction in the same stage
    counts, then of whatever stood at its place, then of the same words in another stage; else the
    mean of its kind, else a guess.
    """
    past = _Past(store.journal.recent_steps(dockerfile, _BUILDS))
    return {vertex.id: past.seconds(vertex) for vertex in vertices}


def recorded_seconds(
    store: Store, dockerfile: str, vertices: Iterable[Vertex]
) -> dict[VertexID, float]:
    """Return of each vertex that a build of this Dockerfile has run how long it took."""
    past = _Past(store.journal.recent_steps(dockerfile, _BUILDS))
    known = ((vertex.id, past.recorded(vertex)) for vertex in vertices)
    return {name: seconds for name, seconds in known if seconds is not None}


class _Past:
    """What recent builds say, newest first."""

    def __init__(self, rows: Iterable[StepRow]) -> None:
        self._known: dict[object, float] = {}
        by_kind: dict[str, list[float]] = {}
        for row in rows:
            seconds = max(0, row.ended_ns - row.started_ns) / 1e9
            for name in ((row.stage, row.title), (row.stage, row.step), row.title):
                self._known.setdefault(name, seconds)
            by_kind.setdefault(_kind(row.title), []).append(seconds)
        self._means = {kind: sum(all_of) / len(all_of) for kind, all_of in by_kind.items()}

    def seconds(self, vertex: Vertex) -> float:
        """Return how long `vertex` is likely to take."""
        recorded = self.recorded(vertex)
        if recorded is not None:
            return recorded
        guess = _UNKNOWN_S[type(vertex.op)]
        return self._means.get(_kind(vertex.title), guess) if guess else guess

    def recorded(self, vertex: Vertex) -> float | None:
        """Return how long `vertex` took, None where it never ran."""
        if isinstance(vertex.op, BaseOp | LinkOp):
            return None
        for name in (
            (vertex.stage, vertex.title),
            (vertex.stage, vertex.step),
            vertex.title,
        ):
            if name in self._known:
                return self._known[name]
        return None


def _kind(title: str) -> str:
    return title.partition(" ")[0].upper()
