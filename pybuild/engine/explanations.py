"""Why the steps of a build ran, as the journal has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.engine.endings import status_of, true_row
from pybuild.errors import PybuildError
from values.classes import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.causes import Cause
    from store.buildjournal import BuildRow, StepRow
    from store.journal import Head
    from store.root import Store

LAST = "last"


@dataclass(frozen=True, slots=True)
class StepWhy:
    """A step of a build. name: as progress shows it, with its place in the stage.

    status: cached, done, adopted, failed, cancelled, running or killed. causes: why it ran; none
    where it did not. policies: as its comment has them.
    """

    number: int
    name: str
    stage: str
    line: int
    status: str
    causes: tuple[Cause, ...]
    policies: str = ""

    @property
    def follows(self) -> bool:
        """Whether it ran only because a step before it did."""
        return bool(self.causes) and all(cause.kind == "follows" for cause in self.causes)


@dataclass(frozen=True, slots=True)
class BuildWhy:
    """A build of the journal, and its steps in the order of their numbers."""

    build: BuildRow
    steps: tuple[StepWhy, ...]


def why(store: Store, build_id: str = LAST, step: str | None = None) -> BuildWhy:
    """Return why the steps of a build ran.

    build_id: of the journal, or its beginning, or `last`. step: only this one: its number, its
    place (`web 3/5`), or a part of its text.
    Raises PybuildError for a build or step that is not there.
    """
    build = find_build(store, build_id)
    status = status_of(build)
    rows = (true_row(row, status) for row in store.journal.steps(build.build_id))
    steps = tuple(map(_step, rows))
    if step is not None:
        steps = tuple(item for item in steps if means(item.number, item.name, step))
        if not steps:
            raise PybuildError(
                f'build {build.build_id}: no step "{step}"',
                hint=f"`pybuild cache why {build.build_id} --all` shows its steps",
            )
    return BuildWhy(build, steps)


def find_build(store: Store, build_id: str) -> BuildRow:
    """Return a build of the journal by its id, the beginning of one, or `last`.

    Raises PybuildError, Corrupt.
    """
    from store.journal import heads

    head = chosen_build(heads(store), build_id)
    build = store.journal.build(head.build_id)
    if build is None:
        raise PybuildError(f"no such build: {build_id}", hint="it was just removed")
    return build


def chosen_build(builds: Sequence[Head], build_id: str) -> Head:
    """Return the build of the journal (newest first) that a word means. Raises PybuildError."""
    if build_id == LAST:
        if not builds:
            raise PybuildError("there is no build in the journal", hint="build something first")
        return builds[0]
    hint = "`pybuild builds ls` lists the builds"
    found = [build for build in builds if build.build_id.startswith(build_id)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise PybuildError(f"no such build: {build_id}", hint=hint)
    raise PybuildError(f"build {build_id}: {len(found)} builds begin so", hint=hint)


def _step(row: StepRow) -> StepWhy:
    line = row.details.get("line")
    return StepWhy(
        row.number,
        str(row.details.get("name") or row.title),
        row.stage,
        line if isinstance(line, int) else 0,
        row.status,
        causes_of(row),
        str(row.details.get("policies", "")),
    )


def causes_of(row: StepRow) -> tuple[Cause, ...]:
    """Return why a step of the journal ran, nothing where it did not."""
    from builder.causes import Cause

    causes = row.details.get("why")
    return tuple(map(Cause.from_fields, causes)) if isinstance(causes, list) else ()


def means(number: int, name: str, wanted: str) -> bool:
    """Tell whether a word means a step: its number, its place (`web 3/5`), a part of its text."""
    if wanted.isdecimal():
        return number == int(wanted)
    label = name.partition("]")[0].lstrip("[")
    return label == wanted.strip("[]") or wanted.lower() in name.lower()
