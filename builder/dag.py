"""A build graph with branches, in networkx.

Apart from `graph`, because networkx takes 50 ms to import and most builds are a single line.
"""

from collections.abc import Mapping

import networkx as nx

from builder.vertex import Vertex, VertexID
from values.classes import dataclass


@dataclass(slots=True)
class Dag:
    """See `graph.BuildGraph`; an edge leads from an input to its user."""

    dag: "nx.DiGraph[VertexID]"
    vertices: Mapping[VertexID, Vertex]

    def waiting(self) -> dict[VertexID, int]:
        """Return how many different inputs each vertex waits for."""
        return {vertex: self.dag.in_degree(vertex) for vertex in self.dag}

    def users(self, vertex: VertexID) -> list[VertexID]:
        """Return the vertices that have `vertex` as an input."""
        return list(self.dag.successors(vertex))

    def has_choice(self) -> bool:
        """Tell whether there is ever more than one vertex that could be next."""
        begins = sum(1 for _, count in self.dag.in_degree() if count == 0)
        return begins > 1 or any(count > 1 for _, count in self.dag.out_degree())

    def ranks(self, seconds: Mapping[VertexID, float]) -> dict[VertexID, int]:
        """Return the places of the vertices in the order in which they are begun, given a choice.

        seconds: how long each is likely to take. First comes the one with the longest way to the
        target, itself included; then the one with more vertices on its way; then as written.
        """
        ways: dict[VertexID, tuple[float, int]] = {}
        for vertex in reversed(list(nx.topological_sort(self.dag))):
            longest = max((ways[user] for user in self.users(vertex)), default=(0.0, 0))
            ways[vertex] = longest[0] + seconds.get(vertex, 0.0), longest[1] + 1
        order = sorted(self.vertices, key=lambda vertex: ways[vertex], reverse=True)
        return {vertex: place for place, vertex in enumerate(order)}


def build_dag(vertices: Mapping[VertexID, Vertex], *targets: VertexID) -> Dag:
    """Return the graph of what `targets` need: everything else is pruned."""
    dag: nx.DiGraph[VertexID] = nx.DiGraph()
    dag.add_nodes_from(vertices)
    for vertex in vertices.values():
        dag.add_edges_from((source, vertex.id) for source in vertex.inputs)
    needed = set(targets).union(*(nx.ancestors(dag, target) for target in targets))
    pruned: nx.DiGraph[VertexID] = nx.DiGraph(dag.subgraph(needed))
    kept = {name: vertex for name, vertex in vertices.items() if name in needed}
    return Dag(pruned, kept)
