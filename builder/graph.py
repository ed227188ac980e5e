"""The build graph: vertices and who needs whom, in networkx.

Owns order, reachability and readiness. Refuses to know what vertices do.
"""

from collections.abc import Mapping

import networkx as nx

from builder.vertex import Vertex, VertexID
from values.classes import dataclass


@dataclass(slots=True)
class BuildGraph:
    """The vertices that a target needs; an edge leads from an input to its user.

    height: how many vertices lie on the longest way from a vertex to the target: a vertex with
    more of them after it is started first.
    """

    dag: "nx.DiGraph[VertexID]"
    vertices: Mapping[VertexID, Vertex]
    height: Mapping[VertexID, int]

    def waiting(self) -> dict[VertexID, int]:
        """Return how many different inputs each vertex waits for."""
        return {vertex: self.dag.in_degree(vertex) for vertex in self.dag}

    def users(self, vertex: VertexID) -> list[VertexID]:
        """Return the vertices that have `vertex` as an input."""
        return list(self.dag.successors(vertex))

    def order(self) -> list[VertexID]:
        """Return all vertices, inputs before their users, equal ones by height, then as written."""
        position = {vertex: number for number, vertex in enumerate(self.vertices)}
        return list(
            nx.lexicographical_topological_sort(
                self.dag, key=lambda vertex: (-self.height[vertex], position[vertex])
            )
        )


def build_graph(vertices: Mapping[VertexID, Vertex], target: VertexID) -> BuildGraph:
    """Return the graph of what `target` needs: everything else is pruned.

    Equal vertices are one already, they have one id.
    """
    dag: nx.DiGraph[VertexID] = nx.DiGraph()
    dag.add_nodes_from(vertices)
    for vertex in vertices.values():
        dag.add_edges_from((source, vertex.id) for source in vertex.inputs)
    needed = nx.ancestors(dag, target) | {target}
    pruned: nx.DiGraph[VertexID] = nx.DiGraph(dag.subgraph(needed))
    height: dict[VertexID, int] = {}
    for vertex_id in reversed(list(nx.topological_sort(pruned))):
        height[vertex_id] = 1 + max(
            (height[user] for user in pruned.successors(vertex_id)), default=0
        )
    kept = {name: vertex for name, vertex in vertices.items() if name in needed}
    return BuildGraph(pruned, kept, height)
