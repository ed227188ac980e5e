"""The build graph: vertices and who needs whom.

Owns reachability, readiness and the length of the way to the target. Refuses to know what
vertices do. A line, each vertex standing on one other, needs no graph library; see `dag`.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Protocol

from builder.vertex import Vertex, VertexID
from values.classes import dataclass


class BuildGraph(Protocol):
    """The vertices that targets need, inputs before their users."""

    @property
    def vertices(self) -> Mapping[VertexID, Vertex]:
        """The vertices by their ids."""

    def waiting(self) -> dict[VertexID, int]:
        """Return how many different inputs each vertex waits for."""

    def users(self, vertex: VertexID) -> list[VertexID]:
        """Return the vertices that have `vertex` as an input."""

    def has_choice(self) -> bool:
        """Tell whether there is ever more than one vertex that could be next."""

    def ranks(self, seconds: Mapping[VertexID, float]) -> dict[VertexID, int]:
        """Return the places of the vertices in the order in which they are begun, given a choice.

        seconds: how long each is likely to take.
        """


@dataclass(frozen=True, slots=True)
class Line:
    """Vertices of which each but the first stands on the one before; `following` says which."""

    vertices: Mapping[VertexID, Vertex]
    following: Mapping[VertexID, VertexID]

    def waiting(self) -> dict[VertexID, int]:
        """Return how many different inputs each vertex waits for."""
        return {name: min(place, 1) for place, name in enumerate(self.vertices)}

    def users(self, vertex: VertexID) -> list[VertexID]:
        """Return the vertex that has `vertex` as its input, if there is one."""
        return [self.following[vertex]] if vertex in self.following else []

    def has_choice(self) -> bool:
        """Tell that there is none."""
        return False

    def ranks(self, seconds: Mapping[VertexID, float]) -> dict[VertexID, int]:
        """Return the places of the vertices, however long they take."""
        return {name: place for place, name in enumerate(self.vertices)}


def build_graph(vertices: Mapping[VertexID, Vertex], *targets: VertexID) -> BuildGraph:
    """Return the graph of what `targets` need: everything else is pruned.

    Equal vertices are one already, they have one id.
    """
    line = line_to(vertices, targets)
    if line is not None:
        return line
    from builder.dag import build_dag

    return build_dag(vertices, *targets)


def line_to(vertices: Mapping[VertexID, Vertex], targets: tuple[VertexID, ...]) -> Line | None:
    """Return what the targets need if it is a line with the only target at its end."""
    if len(set(targets)) != 1:
        return None
    found = [vertices[targets[0]]]
    while sources := set(found[-1].inputs):
        if len(sources) > 1:
            return None
        found.append(vertices[sources.pop()])
    found.reverse()
    following = {one.id: other.id for one, other in pairwise(found)}
    return Line({vertex.id: vertex for vertex in found}, following)
