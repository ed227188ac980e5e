"""The time line of a build: a bar for each step, on one scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pybuild.report.markup import escaped
from pybuild.sizes import human_seconds

if TYPE_CHECKING:
    from pybuild.engine.journal import JournalBuild, JournalStep

_TICKS = 8
_LEAST_NS = 1_000_000  # of a build whose end nobody knows
_WIDE = 18.0  # of a hundred: a bar that has room for its time


def timeline(build: JournalBuild, path: Sequence[int]) -> Iterator[str]:
    """Yield the time line as HTML. path: the numbers of the steps of the longest path."""
    began_ns = build.build.started_ns
    ends = [step.row.started_ns + int(step.seconds * 1e9) for step in build.steps]
    whole_s = (max([build.build.ended_ns, *ends, began_ns + _LEAST_NS]) - began_ns) / 1e9
    yield '<div class="timeline">\n<div class="axis"><span></span><div class="scale">'
    tick_s = _round(whole_s / _TICKS)
    for number in range(int(whole_s / tick_s) + 1):
        share = 100 * number * tick_s / whole_s
        if share <= 95:
            text = human_seconds(number * tick_s) if number else "0"
            yield f'<i style="left:{share:.2f}%">{escaped(text)}</i>'
    yield "</div></div>\n"
    for step in build.steps:
        yield _bar(step, began_ns, whole_s, on_path=step.row.number in path)
    yield "</div>\n"


def _bar(step: JournalStep, began_ns: int, whole_s: float, *, on_path: bool) -> str:
    left = max(0.0, 100 * (step.row.started_ns - began_ns) / 1e9 / whole_s)
    width = max(0.3, 100 * step.seconds / whole_s)
    kind = escaped(step.row.status) + (" longest" if on_path else "")
    time = "cached" if step.row.status == "cached" else human_seconds(step.seconds)
    # The time stands behind the bar, in a wide one inside, else before it where there is no room.
    where, inside = f"left:{left + width:.2f}%", ""
    if width > _WIDE:
        where, inside = f"left:{left:.2f}%", ' class="inside-bar"'
    elif left + width > 100 - _WIDE:
        where = f"right:{100 - left:.2f}%"
    name = escaped(" ".join(step.name.split()))
    return (
        f'<div class="lane"><a href="#step-{step.row.number}" title="{name}">{name}</a>'
        f'<div class="track"><b class="bar {kind}" style="left:{left:.2f}%;width:{width:.2f}%"></b>'
        f'<span{inside} style="{where}">{escaped(time)}</span></div></div>\n'
    )


def _round(seconds: float) -> float:
    """Return the next bigger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** (len(f"{int(seconds)}") - 1) if seconds >= 1 else 1e-3
    while True:
        for digit in (1, 2, 5):
            if digit * power >= seconds:
                return digit * power
        power *= 10
