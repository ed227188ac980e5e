"""Two builds of the journal side by side: which step is which, and what differs.

Pure: values in, values out.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from values.classes import dataclass

if TYPE_CHECKING:
    from pybuild.engine.journal import JournalBuild, JournalStep


@dataclass(frozen=True, slots=True)
class Pair:
    """A step of two builds; None where one build has none like it."""

    first: JournalStep | None
    second: JournalStep | None

    @property
    def what(self) -> tuple[str, ...]:
        """How they differ beside their times."""
        if self.first is None or self.second is None:
            return ("only in the second",) if self.first is None else ("only in the first",)
        one, other = self.first, self.second
        sides = {
            "instruction": (one.row.title, other.row.title),
            "cache key": (one.row.key, other.row.key),
            "status": (one.row.status, other.row.status),
            "size": (one.size_bytes, other.size_bytes),
        }
        return tuple(name for name, (left, right) in sides.items() if left != right)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two builds: their steps in pairs, and the fields of the builds that differ."""

    first: JournalBuild
    second: JournalBuild
    pairs: tuple[Pair, ...]
    fields: tuple[tuple[str, str, str], ...]


def compare(first: JournalBuild, second: JournalBuild) -> Comparison:
    """Return two builds side by side.

    Steps are the same that have the same words in the same stage, else the same place there.
    """
    return Comparison(
        first, second, tuple(_pairs(first.steps, second.steps)), tuple(_fields(first, second))
    )


def _pairs(first: Iterable[JournalStep], second: Iterable[JournalStep]) -> Iterator[Pair]:
    steps, others = list(first), list(second)
    found: dict[int, JournalStep] = {}
    for by_words in (True, False):
        free: dict[object, deque[JournalStep]] = defaultdict(deque)
        taken = {other.row.number for other in found.values()}
        for other in others:
            if other.row.number not in taken:
                free[_name(other, by_words=by_words)].append(other)
        for step in steps:
            same = free.get(_name(step, by_words=by_words))
            if step.row.number not in found and same:
                found[step.row.number] = same.popleft()
    taken = {other.row.number for other in found.values()}
    yield from (Pair(step, found.get(step.row.number)) for step in steps)
    yield from (Pair(None, other) for other in others if other.row.number not in taken)


def _name(step: JournalStep, *, by_words: bool) -> tuple[object, ...]:
    return (step.row.stage, step.row.title if by_words else step.row.step)


def _fields(first: JournalBuild, second: JournalBuild) -> Iterator[tuple[str, str, str]]:
    sides = (_facts(first), _facts(second))
    for name in sides[0]:
        if sides[0][name] != sides[1][name]:
            yield name, sides[0][name], sides[1][name]


def _facts(build: JournalBuild) -> dict[str, str]:
    row = build.build
    return {
        "status": build.line.status,
        "tags": ", ".join(build.line.tags),
        "target": str(row.details.get("target") or ""),
        "dockerfile": row.dockerfile,
        "context": row.context,
        "image": row.image_id,
        "error": row.error,
    }
