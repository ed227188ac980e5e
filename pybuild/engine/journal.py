"""The journal of builds for people: which there were, what each of their steps did, and its log.

Owns the reading of rows to values, which step or build a word means, and what may be removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.engine.endings import is_running, status_of, true_row
from pybuild.engine.explanations import LAST, causes_of, chosen_build, find_build, means
from pybuild.engine.filters import Filters, moment
from pybuild.errors import PybuildError
from values.classes import dataclass

if TYPE_CHECKING:
    from builder.causes import Cause
    from store.buildjournal import BuildRow, StepRow
    from store.root import Store

FILTERS = ("status", "ref", "since", "until")
REMOVAL_FILTERS = ("until",)
STATUSES = ("running", "done", "failed", "cancelled", "killed")
_UNFINISHED = ("running", "killed")
_RAN = ("done", "adopted", "failed", "cancelled", *_UNFINISHED)


@dataclass(frozen=True, slots=True)
class BuildLine:
    """A build as a list has it. status: one of STATUSES."""

    build: BuildRow
    status: str
    steps: int
    cached: int

    @property
    def seconds(self) -> float:
        """How long it took, or has been running; 0 where nobody knows."""
        return _seconds(self.build.started_ns, self.build.ended_ns, self.status)

    @property
    def tags(self) -> tuple[str, ...]:
        """The names that were asked for."""
        tags = self.build.details.get("tags")
        return tuple(map(str, tags)) if isinstance(tags, list) else ()

    @property
    def name(self) -> str:
        """Its names, else the target's in a bake file, else its Dockerfile."""
        bake = self.build.details.get("bake")
        return ", ".join(self.tags) or str(bake or self.build.dockerfile)


@dataclass(frozen=True, slots=True)
class JournalStep:
    """A step of a build. Its row's status is `killed` where its build was killed meanwhile.

    saved_s: of one that was cached, how long it took when it ran; None where nobody noted it.
    size_bytes: of the layer that it has, None where that is gone. log_bytes: None without a log,
    -1 where it was pruned. inputs: numbers of the steps it stands on. bases: images it stands on.
    policies: as its comment has them. tries: how often it was begun, where more than once. failure:
    how it ended where it failed.
    """

    row: StepRow
    name: str
    line: int
    causes: tuple[Cause, ...]
    cpu_seconds: float | None
    peak_memory_bytes: int | None
    size_bytes: int | None
    saved_s: float | None
    log_bytes: int | None
    inputs: tuple[int, ...]
    bases: tuple[str, ...]
    policies: str = ""
    tries: int = 1
    failure: str = ""

    @property
    def ran(self) -> bool:
        """Whether it was not cached."""
        return self.row.status in _RAN

    @property
    def seconds(self) -> float:
        """How long it took this time, or has been running; 0 where nobody knows."""
        return _seconds(self.row.started_ns, self.row.ended_ns, self.row.status)


@dataclass(frozen=True, slots=True)
class JournalBuild:
    """A build with all that the journal has of its steps, in the order of their numbers."""

    line: BuildLine
    steps: tuple[JournalStep, ...]
    image_bytes: int | None

    @property
    def build(self) -> BuildRow:
        """Its row."""
        return self.line.build

    @property
    def saved_s(self) -> float:
        """How long its cached steps took when they ran."""
        return sum(step.saved_s or 0.0 for step in self.steps)

    @property
    def cpu_seconds(self) -> float:
        """What its steps computed, of those that were measured."""
        return sum(step.cpu_seconds or 0.0 for step in self.steps)

    @property
    def peak_memory_bytes(self) -> int:
        """What its hungriest step took."""
        return max((step.peak_memory_bytes or 0 for step in self.steps), default=0)

    @property
    def added_bytes(self) -> int:
        """What the steps that ran added."""
        return sum(step.row.size_bytes for step in self.steps)


def listed(store: Store, filters: Sequence[str] = (), limit: int | None = None) -> list[BuildLine]:
    """Return the builds of the journal, newest first.

    filters: `key=value` each, of FILTERS. Raises PybuildError, Corrupt.
    """
    from store.journal import Count, counts

    wanted = _Wanted(Filters.parse(filters, FILTERS))
    known = counts(store)
    found: list[BuildLine] = []
    for build in store.journal.builds():
        count = known.get(build.build_id, Count())
        line = BuildLine(build, status_of(build), count.steps, count.cached)
        if wanted.fits(line):
            found.append(line)
        if len(found) == limit:
            break
    return found


def show(store: Store, build_id: str = LAST) -> JournalBuild:
    """Return a build by its id, the beginning of one, or `last`. Raises PybuildError, Corrupt."""
    build = find_build(store, build_id)
    status = status_of(build)
    rows = (true_row(row, status) for row in store.journal.steps(build.build_id))
    steps = tuple(_step(store, row) for row in rows)
    cached = sum(step.row.status == "cached" for step in steps)
    line = BuildLine(build, status, len(steps), cached)
    return JournalBuild(line, steps, _image_bytes(store, build.image_id))


def steps_of(build: JournalBuild, word: str) -> JournalStep:
    """Return the step that a word means: its number, its place or a part of its text.

    Raises PybuildError for none and for several.
    """
    found = [step for step in build.steps if means(step.row.number, step.name, word)]
    if len(found) == 1:
        return found[0]
    name = build.build.build_id
    hint = f"`pybuild builds show {name}` lists its steps"
    if not found:
        raise PybuildError(f'build {name}: no step "{word}"', hint=hint)
    raise PybuildError(f'build {name}: "{word}" means {len(found)} steps', hint=hint)


def log_file(store: Store, build: JournalBuild, step: JournalStep) -> str | None:
    """Return the file with a step's whole log, None where it wrote nothing.

    Raises PybuildError where the log was pruned.
    """
    if step.log_bytes is None:
        return None
    if step.log_bytes < 0:
        raise PybuildError(
            f"build {build.build.build_id}: the log of step {step.row.number} is gone",
            hint="it was deleted from the store; build with --no-cache to see it again",
        )
    return _log_path(store, step.row)


def earlier_log(store: Store, step: JournalStep) -> tuple[str, str] | None:
    """Return which build made what a cached step gave, and the file with its log then.

    None where the step was not cached, where nobody knows, and where that log is gone.
    """
    from store.digest import Digest
    from store.errors import StoreError

    if step.ran:
        return None
    with suppress(StoreError):  # another build's damage is not this one's
        for record in store.records.every(Digest(step.row.key))[:1]:
            for row in store.journal.steps(record.build_id):
                if row.key == step.row.key and (_log_bytes(store, row) or 0) > 0:
                    return record.build_id, _log_path(store, row)
    return None


def remove(
    store: Store,
    names: Sequence[str] = (),
    filters: Sequence[str] = (),
    *,
    everything: bool = False,
) -> tuple[list[str], int]:
    """Remove builds and their logs from the journal; return their ids and the bytes that freed.

    Of builds that run, those that are named are refused, others stay. Raises PybuildError; nothing
    has gone then.
    """
    from store import journal

    heads = journal.heads(store)
    chosen = [chosen_build(heads, name) for name in names]
    for head in chosen:
        if is_running(head):
            raise PybuildError(
                f"build {head.build_id}: it is running", hint="remove it when it has ended"
            )
    before_s = Filters.parse(filters, REMOVAL_FILTERS).before_s()
    if everything or before_s is not None:
        limit_ns = None if before_s is None else int(before_s * 1e9)
        chosen += [
            head
            for head in heads
            if (limit_ns is None or head.started_ns < limit_ns) and not is_running(head)
        ]
    ids = list(dict.fromkeys(head.build_id for head in chosen))
    return ids, journal.remove(store, ids)


class _Wanted:
    """What `--filter` asks for; values of one key are alternatives."""

    def __init__(self, filters: Filters) -> None:
        self.statuses = filters.values("status")
        for status in self.statuses:
            if status not in STATUSES:
                raise PybuildError(
                    f"invalid filter 'status={status}'", hint=f"there is: {', '.join(STATUSES)}"
                )
        self.refs = filters.values("ref")
        since = (moment(text, key="since") for text in filters.values("since"))
        self.since_s = max(since, default=None)
        self.until_s = filters.before_s()

    def fits(self, line: BuildLine) -> bool:
        """Tell whether a build is asked for."""
        began_s = line.build.started_ns / 1e9
        return (
            (not self.statuses or line.status in self.statuses)
            and (not self.refs or any(_is_called(line, ref) for ref in self.refs))
            and (self.since_s is None or began_s >= self.since_s)
            and (self.until_s is None or began_s < self.until_s)
        )


def _is_called(line: BuildLine, ref: str) -> bool:
    """Tell whether a build's id begins so, or it has this tag, with or without `:latest`."""
    names = {*line.tags, *(tag.removesuffix(":latest") for tag in line.tags)}
    return line.build.build_id.startswith(ref) or ref.removesuffix(":latest") in names


def _seconds(started_ns: int, ended_ns: int, status: str) -> float:
    if not ended_ns and status == "running":
        ended_ns = time.time_ns()
    return max(0, ended_ns - started_ns) / 1e9


def _step(store: Store, row: StepRow) -> JournalStep:
    details = row.details
    size, saved_s = row.size_bytes or None, None
    if row.status == "cached":
        size, saved_s = _recorded(store, row.key)
    return JournalStep(
        row,
        str(details.get("name") or row.title),
        line if isinstance(line := details.get("line"), int) else 0,
        causes_of(row),
        float(cpu) if isinstance(cpu := details.get("cpu_seconds"), int | float) else None,
        peak if isinstance(peak := details.get("peak_memory_bytes"), int) else None,
        size,
        saved_s,
        _log_bytes(store, row),
        tuple(item for item in _items(details.get("inputs")) if isinstance(item, int)),
        tuple(map(str, _items(details.get("bases")))),
        str(details.get("policies", "")),
        tries if isinstance(tries := details.get("tries"), int) else 1,
        str(details.get("failure", "")),
    )


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _recorded(store: Store, key: str) -> tuple[int | None, float | None]:
    """Return what the result of a key is in bytes, and how long its step took; None if unknown."""
    from store.digest import Digest
    from store.errors import StoreError

    records = store.records.every(Digest(key))
    if not records:
        return None, None
    size = None
    with suppress(StoreError):
        size = sum(store.layers.info(diff_id).size_bytes for diff_id in records[0].diff_ids)
    passed_ns = records[0].ended_ns - records[0].started_ns
    return size, passed_ns / 1e9 if passed_ns > 0 else None


def _log_bytes(store: Store, row: StepRow) -> int | None:
    if not row.log_path:
        return None
    try:
        return os.stat(_log_path(store, row)).st_size
    except OSError:
        return None if row.status in _UNFINISHED else -1


def _log_path(store: Store, row: StepRow) -> str:
    return store.folder.path(*row.log_path.split("/"))


def _image_bytes(store: Store, image_id: str) -> int | None:
    from store.digest import Digest
    from store.errors import StoreError

    try:
        return store.images.get(Digest(image_id)).size_bytes if image_id else None
    except StoreError:
        return None
