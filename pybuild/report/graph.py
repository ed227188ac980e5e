"""The graph of a build as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pybuild.report.layering import Measures, Name, Point, laid_out
from pybuild.report.markup import escaped
from pybuild.sizes import human_seconds

if TYPE_CHECKING:
    from pybuild.engine.journal import JournalStep

_MEASURES = Measures()
_MARGIN = 8
_LETTERS = 29  # that fit into a node
_SHRUNK = 0.78  # below that nobody can read it: it is scrolled instead


def graph_svg(steps: Sequence[JournalStep], path: Sequence[int]) -> Iterator[str]:
    """Yield the SVG of the steps and the images that they stand on. path: the longest path."""
    by_number = {step.row.number: step for step in steps}
    inputs = _inputs(steps, by_number)
    layout = laid_out(inputs, _MEASURES)
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    box = f"{-_MARGIN} {-_MARGIN} {width:.0f} {height:.0f}"
    yield (
        f'<svg class="graph" viewBox="{box}" width="{width:.0f}" height="{height:.0f}"'
        f' style="min-width:{_SHRUNK * width:.0f}px"'
        ' role="img" aria-label="steps and what they stand on">\n'
    )
    longest = set(pairwise(path))
    for edge, points in sorted(layout.edges.items(), key=lambda item: item[0] in longest):
        kind = "edge longest" if edge in longest else "edge"
        yield f'<path class="{kind}" d="{_curve(points)}"/>\n'
    for name, corner in layout.nodes.items():
        if isinstance(name, int):
            yield _step_node(by_number[name], corner, on_path=name in path)
        else:
            yield _base_node(str(name), corner)
    yield "</svg>\n"


def _inputs(
    steps: Sequence[JournalStep], by_number: Mapping[int, JournalStep]
) -> dict[Name, tuple[Name, ...]]:
    """Return for each node those that it stands on, inputs first."""
    inputs: dict[Name, tuple[Name, ...]] = {}
    for step in steps:
        for base in step.bases:
            inputs.setdefault(base, ())
        # A step begins after those it stands on, so they have smaller numbers.
        known = (n for n in step.inputs if n in by_number and n < step.row.number)
        inputs[step.row.number] = (*step.bases, *known)
    return inputs


def _curve(points: Sequence[Point]) -> str:
    (x, y), *rest = points
    parts = [f"M{x:.1f} {y:.1f}"]
    for number, (to_x, to_y) in enumerate(rest):
        if number % 2:  # along a row that it passes
            parts.append(f"L{to_x:.1f} {to_y:.1f}")
        else:
            middle = (y + to_y) / 2
            parts.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    return "".join(parts)


def _step_node(step: JournalStep, corner: Point, *, on_path: bool) -> str:
    label, _, title = " ".join(step.name.split()).rpartition("] ")
    label = label.lstrip("[") or f"#{step.row.number}"
    kind = f"node {escaped(step.row.status)}" + (" longest" if on_path else "")
    time = "cached" if step.row.status == "cached" else human_seconds(step.seconds)
    x, y = corner
    return (
        f'<a href="#step-{step.row.number}" class="{kind}"'
        f' transform="translate({x:.1f} {y:.1f})">'
        f"<title>{escaped(step.name)}</title>{_box()}"
        f'<rect class="mark" width="4" height="{_MEASURES.height:.0f}" rx="2"/>'
        f'<text class="label" x="14" y="19">{_fitting(label, 20)}</text>'
        f'<text class="time" x="{_MEASURES.width - 10:.0f}" y="19">{escaped(time)}</text>'
        f'<text class="title" x="14" y="38">{_fitting(title, _LETTERS)}</text></a>\n'
    )


def _base_node(name: str, corner: Point) -> str:
    x, y = corner
    return (
        f'<g class="node base" transform="translate({x:.1f} {y:.1f})">'
        f"<title>{escaped(name)}</title>{_box()}"
        f'<text class="label" x="14" y="19">image</text>'
        f'<text class="title" x="14" y="38">{_fitting(name, _LETTERS)}</text></g>\n'
    )


def _box() -> str:
    return (
        f'<rect class="box" width="{_MEASURES.width:.0f}" height="{_MEASURES.height:.0f}" rx="6"/>'
    )


def _fitting(text: str, letters: int) -> str:
    return escaped(text if len(text) <= letters else text[: letters - 1] + "…")
