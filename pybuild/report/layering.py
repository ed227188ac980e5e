"""A layered layout of a directed graph without cycles, from above to below.

Pure: names and edges in, places out. Sugiyama's way: rows by the longest way from a beginning,
edges over several rows cut into short ones, fewer crossings by barycentres, then the places in a
row that are nearest to the neighbours' with the distance kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from values.classes import dataclass

Name = object
Point = tuple[float, float]

_SWEEPS = 12
_WEIGHT = 4


@dataclass(frozen=True, slots=True)
class Measures:
    """How big nodes are and how far they stand apart, in pixels. bend: room for a passing edge."""

    width: float = 236
    height: float = 50
    gap: float = 26
    row_gap: float = 34
    bend: float = 14


@dataclass(frozen=True, slots=True)
class Layout:
    """Where nodes are (their top left corners), and edges: the points that each goes through."""

    width: float
    height: float
    nodes: Mapping[Name, Point]
    edges: Mapping[tuple[Name, Name], tuple[Point, ...]]


def laid_out(inputs: Mapping[Name, Sequence[Name]], measures: Measures) -> Layout:
    """Return the layout of a graph.

    inputs: for each node those that it stands on, which are nodes too and come before it; what
    comes first of them counts most.
    """
    ranks = _ranks(inputs)
    rows, ways = _rows(inputs, ranks)
    _uncross(rows, ways)
    places = _places(rows, ways, measures)
    step = measures.height + measures.row_gap
    nodes = {name: (places[name] - measures.width / 2, ranks[name] * step) for name in inputs}
    edges = {}
    for way in ways:
        top, *bends, bottom = way
        points = [(places[top], ranks[top] * step + measures.height)]
        for place, bend in enumerate(bends, ranks[top] + 1):
            points += [(places[bend], place * step), (places[bend], place * step + measures.height)]
        edges[top, bottom] = (*points, (places[bottom], ranks[bottom] * step))
    ends = [place + _half(name, measures) for name, place in places.items()]
    width = max(ends, default=0.0)
    return Layout(width, max(0.0, len(rows) * step - measures.row_gap), nodes, edges)


def _ranks(inputs: Mapping[Name, Sequence[Name]]) -> dict[Name, int]:
    """Return each node's row; what stands on nothing is just above its first user."""
    ranks: dict[Name, int] = {}
    for name, sources in inputs.items():
        ranks[name] = max((ranks[source] + 1 for source in sources), default=0)
    for name in reversed(list(inputs)):
        users = [ranks[user] for user, sources in inputs.items() if name in sources]
        if not inputs[name] and users:
            ranks[name] = min(users) - 1
    return ranks


_Way = list[Name]


def _rows(
    inputs: Mapping[Name, Sequence[Name]], ranks: Mapping[Name, int]
) -> tuple[list[list[Name]], list[_Way]]:
    """Return the rows with the bends of long edges, and each edge as the nodes it goes through."""
    rows: list[list[Name]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for name in inputs:
        rows[ranks[name]].append(name)
    ways: list[_Way] = []
    for name, sources in inputs.items():
        for source in dict.fromkeys(sources):
            bends = [_Bend(source, name, row) for row in range(ranks[source] + 1, ranks[name])]
            for bend in bends:
                rows[bend.row].append(bend)
            # What a step works on counts more than what it takes files from: stages stay straight.
            ways += [[source, *bends, name]] * (_WEIGHT if source == sources[0] else 1)
    return rows, ways


@dataclass(frozen=True, slots=True)
class _Bend:
    """A place where the edge from one node to another passes a row."""

    source: Name
    target: Name
    row: int


def _neighbours(ways: Sequence[_Way]) -> tuple[dict[Name, _Way], dict[Name, _Way]]:
    above: dict[Name, _Way] = {}
    below: dict[Name, _Way] = {}
    for way in ways:
        for upper, lower in pairwise(way):
            above.setdefault(lower, []).append(upper)
            below.setdefault(upper, []).append(lower)
    return above, below


def _uncross(rows: list[list[Name]], ways: Sequence[_Way]) -> None:
    """Put the nodes of each row into an order with few crossings."""
    above, below = _neighbours(ways)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        order = rows if down else rows[::-1]
        for fixed, row in pairwise(order):
            places = {name: place for place, name in enumerate(fixed)}
            own = {name: place for place, name in enumerate(row)}
            row.sort(key=lambda name, p=places, o=own: _mean(near.get(name, ()), p, o[name]))  # type: ignore[misc]
        count = _crossings(rows, below)
        if count < fewest:
            best, fewest = [list(row) for row in rows], count
    rows[:] = best


def _mean(names: Sequence[Name], places: Mapping[Name, float], otherwise: float) -> float:
    found = [places[name] for name in names if name in places]
    return sum(found) / len(found) if found else otherwise


def _crossings(rows: Sequence[Sequence[Name]], below: Mapping[Name, _Way]) -> int:
    count = 0
    for upper, lower in pairwise(rows):
        places = {name: place for place, name in enumerate(lower)}
        ends = [sorted(places[name] for name in below.get(each, ())) for each in upper]
        seen: list[int] = []
        for targets in ends:
            count += sum(before > target for target in targets for before in seen)
            seen += targets
    return count


def _places(
    rows: Sequence[Sequence[Name]], ways: Sequence[_Way], measures: Measures
) -> dict[Name, float]:
    """Return the middle of each node and bend, from left to right, the leftmost node at 0."""
    above, below = _neighbours(ways)

    def half(name: Name) -> float:
        return _half(name, measures)

    places: dict[Name, float] = {}
    for row in rows:
        at = 0.0
        for name in row:
            places[name] = at + half(name)
            at += 2 * half(name) + measures.gap
    for sweep in range(2 * _SWEEPS):
        near = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wished = [_mean(near.get(name, ()), places, places[name]) for name in row]
            gaps = [half(left) + measures.gap + half(right) for left, right in pairwise(row)]
            places.update(zip(row, _spread(wished, gaps), strict=True))
    left = min((places[name] - half(name) for row in rows for name in row), default=0.0)
    return {name: place - left for name, place in places.items()}


def _half(name: Name, measures: Measures) -> float:
    return (measures.bend if isinstance(name, _Bend) else measures.width) / 2


def _spread(wished: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Return the places nearest to those wished (least squares) that keep the distances.

    Without the distances it is isotonic regression: pools of neighbours share their mean.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, int]] = []
    for wish, offset in zip(wished, offsets, strict=True):
        pools.append((wish - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (left, count), (right, more) = pools[-2:]
            pools[-2:] = [((left * count + right * more) / (count + more), count + more)]
    flat = [mean for mean, count in pools for _ in range(count)]
    return [place + offset for place, offset in zip(flat, offsets, strict=True)]
