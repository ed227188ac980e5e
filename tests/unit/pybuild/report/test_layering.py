"""The layout of graphs: edges lead down, nothing lies on anything else, few edges cross."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.report.layering import Measures, _spread, laid_out

MEASURES = Measures()


@st.composite
def graphs(draw: st.DrawFn) -> dict[object, tuple[object, ...]]:
    """Return nodes with earlier ones as their inputs."""
    count = draw(st.integers(0, 12))
    return {
        number: tuple(draw(st.lists(st.integers(0, number - 1), max_size=3))) if number else ()
        for number in range(count)
    }


@settings(deadline=None, max_examples=150)
@given(graphs())
def test_what_holds_for_every_graph(inputs: dict[object, tuple[object, ...]]) -> None:
    layout = laid_out(inputs, MEASURES)
    assert set(layout.nodes) == set(inputs)
    for (x, y), (other_x, other_y) in combinations(layout.nodes.values(), 2):
        assert y != other_y or abs(x - other_x) >= MEASURES.width + MEASURES.gap - 0.01
    for x, y in layout.nodes.values():
        assert -0.01 <= x <= layout.width - MEASURES.width + 0.01
        assert 0 <= y <= layout.height - MEASURES.height + 0.01
    wanted = {(source, name) for name, sources in inputs.items() for source in sources}
    assert set(layout.edges) == wanted
    for (source, name), points in layout.edges.items():
        assert points[0][1] == layout.nodes[source][1] + MEASURES.height
        assert points[-1][1] == layout.nodes[name][1]
        heights = [y for _, y in points]
        assert heights == sorted(heights)
        assert len(points) % 2 == 0
        assert all(0 <= x <= layout.width for x, _ in points)


def test_a_chain_is_straight() -> None:
    layout = laid_out({"a": (), "b": ("a",), "c": ("b",)}, MEASURES)
    assert [x for x, _ in layout.nodes.values()] == [0, 0, 0]


def test_two_chains_do_not_cross() -> None:
    inputs = {"a": (), "b": (), "x": ("b",), "y": ("a",), "end": ("x", "y")}
    nodes = laid_out(inputs, MEASURES).nodes
    assert (nodes["a"][0] < nodes["b"][0]) == (nodes["y"][0] < nodes["x"][0])


def test_a_late_beginning_is_just_above_its_user() -> None:
    nodes = laid_out({"a": (), "b": ("a",), "late": (), "c": ("b", "late")}, MEASURES).nodes
    assert nodes["late"][1] == nodes["b"][1]


def test_places_keep_their_distance_and_are_as_near_as_can_be() -> None:
    assert _spread([0, 100], [10]) == [0, 100]
    assert _spread([50, 50], [10]) == [45, 55]
    assert _spread([0, 0, 0], [10, 10]) == [-10, 0, 10]
