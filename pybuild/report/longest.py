"""The longest path through a build: the steps that nothing but they themselves held up.

Pure: steps in, numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild.engine.journal import JournalStep


def longest_path(steps: Sequence[JournalStep]) -> tuple[int, ...]:
    """Return the numbers of the steps of the path whose steps took longest together, in order."""
    seconds: dict[int, float] = {}
    before: dict[int, int | None] = {}
    for step in steps:
        number = step.row.number
        sources = [source for source in step.inputs if source in seconds]
        before[number] = max(sources, key=lambda source: seconds[source], default=None)
        source = before[number]
        seconds[number] = step.seconds + (seconds[source] if source is not None else 0.0)
    path: list[int] = []
    at = max(seconds, key=lambda number: seconds[number], default=None)
    while at is not None:
        path.append(at)
        at = before[at]
    return tuple(reversed(path))
