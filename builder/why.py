"""Why the steps of one build run: finds what to compare with, and what stands before them.

A step is compared with the records that the same step (Dockerfile, stage, instruction) had in the
builds before; of those the one that differs least says what changed. Asked at each miss, before
the step runs, and told to the journal. Refuses to know how it is printed.
"""

import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.cache import Key
from builder.causes import Cause, FileFacts, changed_files, compare, shortened
from builder.context import LocalContext
from builder.linecounts import LineCounts
from builder.policy import refusal, refused_always, runs_always
from builder.site import Origin, Result
from builder.vertex import Vertex
from store.buildjournal import BuildRow, StepRow
from store.buildrecords import BuildRecord
from store.root import Store
from values.classes import dataclass, field

if TYPE_CHECKING:
    from builder.remotecache.laststeps import LastSteps

BUILDS_COMPARED = 10
_FILES_COUNTED = 5
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class _Earlier(NamedTuple):
    """A step of an earlier build with its record, that build and all of its steps."""

    build: BuildRow
    row: StepRow
    record: BuildRecord
    rows: Sequence[StepRow]


@dataclass(slots=True)
class Explainer:
    """Explains the misses of one build or forecast; asked from several threads.

    build_id: of this build, empty for a forecast. dockerfile: what the journal calls it. context:
    the main one, with its ignore rules. vertices: the plan's. elsewhere: the last build that was
    exported to a remote cache, compared with where this store knows nothing.
    """

    store: Store
    build_id: str
    dockerfile: str
    context: LocalContext
    vertices: Collection[Vertex]
    elsewhere: "LastSteps | None" = None
    _builds: list[BuildRow] | None = None
    _steps: dict[str, list[StepRow]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def causes(self, vertex: Vertex, key: Key, inputs: Sequence[Result]) -> tuple[Cause, ...]:
        """Return why a vertex has to run, the reason of its own first; at least one."""
        if runs_always(vertex):
            return (refused_always(vertex),)
        with self._lock:
            known = self._known(vertex, key)
            if known is not None:
                return (known,)
            failed = self._failed(key)
            if failed is not None:
                return (failed,)
            return self._compared(vertex, key, inputs)

    # -- the same key, and yet no hit

    def _known(self, vertex: Vertex, key: Key) -> Cause | None:
        from store.cacheusage import released_ns

        records = self.store.records.every(key.digest)
        if not records:
            return None
        refused = refusal(vertex, records[0], self.store.records)
        if refused is not None:
            return refused
        when_ns = released_ns(self.store.records, key.digest)
        if when_ns is not None:
            return Cause("pruned", f"its record was pruned{_ago(when_ns)}")
        return Cause("lost", "its layer is no longer in the store")

    def _failed(self, key: Key) -> Cause | None:
        for build in self._earlier():
            for row in self._steps_of(build):
                if row.key == key.digest and row.status in ("failed", "cancelled", "running"):
                    return Cause("failed", f"it {_end_of(row)} in the build before")
        return None

    # -- compared with an earlier record

    def _compared(self, vertex: Vertex, key: Key, inputs: Sequence[Result]) -> tuple[Cause, ...]:
        best: tuple[int, list[Cause], _Earlier] | None = None
        is_new_below = any(result.origin and result.origin.causes for result in inputs)
        for earlier in self._candidates(vertex):
            before = earlier.record.ingredients
            own = compare(before, key.ingredients, self._facts(earlier, key))
            moved = before.get("parent") != key.ingredients.get("parent")
            distance = len(own) + moved
            if best is not None and distance >= best[0]:
                continue
            best = distance, own, earlier
            # What has only reasons that are told already follows, whatever is nearer still.
            if distance <= 1 or (is_new_below and not _not_followed(own, vertex, inputs)):
                break
        if best is None:
            return self._first(inputs)
        _, own, earlier = best
        own = _not_followed(own, vertex, inputs)
        if own:
            return tuple(own)
        return (self._of_what_is_below(vertex, inputs, earlier),)

    def _first(self, inputs: Sequence[Result]) -> tuple[Cause, ...]:
        return (Cause("first", "first build of this step"),)

    def _facts(self, earlier: _Earlier, key: Key) -> FileFacts:
        record = earlier.record
        patterns = earlier.build.details.get("ignore")
        before = tuple(map(str, patterns)) if isinstance(patterns, list) else ()
        changed = changed_files(record.ingredients, key.ingredients)[:_FILES_COUNTED]
        counts: dict[str, tuple[int, int]] = {}
        if changed and record.diff_ids:
            counter = LineCounts(
                os.path.join(self.store.layers.path(record.diff_ids[0]), "fs"),
                self.context.tree.root,
                str(record.ingredients.get("destination") or "/"),
            )
            counts = counter.of(changed, _file_digests(record))
        rules = self.context.tree.rules
        return FileFacts(before, rules.patterns if rules else (), counts)

    def _candidates(self, vertex: Vertex) -> Iterator[_Earlier]:
        """Yield the same step in earlier builds, the newest build first."""
        titles = frozenset((each.stage, each.title) for each in self.vertices)
        found, seen, is_reworded = False, set[str](), False
        for build in self._earlier():
            rows = self._steps_of(build)
            row = _same_step(vertex, rows, titles)
            if row is None or not row.key or row.key in seen:
                continue
            if row.title != vertex.title:
                # One that had other words changed whenever it was: the last time is what counts.
                if is_reworded:
                    continue
                is_reworded = True
            seen.add(row.key)
            records = self.store.records.every(row.key)
            if records:
                found = True
                yield _Earlier(build, row, records[0], rows)
        if not found and self.elsewhere is not None:
            known = {row.key: record for row, record in self.elsewhere.steps}
            rows = [row for row, _ in self.elsewhere.steps]
            row = _same_step(vertex, rows, titles)
            if row is not None:
                yield _Earlier(self.elsewhere.build, row, known[row.key], rows)

    def _earlier(self) -> list[BuildRow]:
        if self._builds is None:
            journal = self.store.journal
            found = journal.builds_of(self.dockerfile, BUILDS_COMPARED + 1)
            self._builds = [build for build in found if build.build_id != self.build_id]
            names = [build.build_id for build in self._builds]
            for row in journal.steps(*names) if names else ():
                self._steps.setdefault(row.build_id, []).append(row)
        return self._builds

    def _steps_of(self, build: BuildRow) -> list[StepRow]:
        return self._steps.get(build.build_id, [])

    # -- the step itself is as it was

    def _of_what_is_below(
        self, vertex: Vertex, inputs: Sequence[Result], earlier: _Earlier
    ) -> Cause:
        for result in inputs:
            if result.origin is not None and result.origin.causes:
                return Cause("follows", f"follows {result.origin.label}", None, result.origin.label)
        below = inputs[0].origin if inputs else None
        if below is not None and below.image:
            return self._base_changed(vertex, below, earlier)
        return self._sequence_changed(vertex, earlier)

    def _base_changed(self, vertex: Vertex, base: Origin, earlier: _Earlier) -> Cause:
        was = earlier.record.ingredients.get("base")
        if not isinstance(was, list) or len(was) < 2:
            return Cause("base", f"the base of {_stage(vertex)} changed to {base.image}")
        name, digest, *also = map(str, was)
        called = {base.image, *base.also}
        kept = next((each for each in (name, *also) if each in called), None)
        if kept is not None:
            text = f"FROM {kept} moved {digest[:19]} → {base.digest[:19]}"
            return Cause("base", text, digest, base.digest)
        text = f"base of {_stage(vertex)} changed: {name} → {base.image}"
        return Cause("base", text, name, base.image)

    def _sequence_changed(self, vertex: Vertex, earlier: _Earlier) -> Cause:
        """Say which instruction before this one came or went, cached as it is."""
        before = _titles_before(earlier.row, earlier.rows)
        now = [
            each.title
            for each in self.vertices
            if each.stage == vertex.stage and each.step < vertex.step and each.step > 1
        ]
        for title in now:
            if title not in before:
                return Cause("sequence", f"before it, {shortened(title)} is new", None, title)
        for title in before:
            if title not in now:
                return Cause("sequence", f"before it, {shortened(title)} is gone", title, None)
        return Cause("sequence", f"the base of {_stage(vertex)} changed")


def _end_of(row: StepRow) -> str:
    if row.status != "failed":
        return "was stopped"
    how = str(row.details.get("failure", ""))
    if how.startswith("exceeded "):
        return how
    return f"failed with exit code {row.exit_code}" if row.exit_code else "failed"


def _not_followed(own: list[Cause], vertex: Vertex, inputs: Sequence[Result]) -> list[Cause]:
    """Leave out what is already said of the step that this one follows.

    A variable that changed is told where it first counts; files of a stage that ran again are
    that stage's doing.
    """
    fresh = [result.origin for result in inputs if result.origin and result.origin.causes]
    told = {(cause.kind, cause.text) for origin in fresh for cause in origin.said}
    left = [cause for cause in own if (cause.kind, cause.text) not in told]
    if any(result.origin and result.origin.causes for result in inputs[1:]):
        left = [cause for cause in left if cause.kind not in ("files", "ignore")]
    return left


def _same_step(
    vertex: Vertex, rows: list[StepRow], titles: frozenset[tuple[str, str]]
) -> StepRow | None:
    """Return the row of the step that a vertex was in another build: by its text, else place.

    titles: of this build: a step that is still there is no other one's past.
    """
    near = [row for row in rows if row.stage == vertex.stage and row.title == vertex.title]
    if near:
        return min(near, key=lambda row: abs(row.step - vertex.step))
    word = vertex.title.split(None, 1)[0].upper()
    placed = [row for row in rows if row.stage == vertex.stage and row.step == vertex.step]
    placed = [row for row in placed if row.title.split(None, 1)[0].upper() == word]
    placed = [row for row in placed if (row.stage, row.title) not in titles]
    elsewhere = [row for row in rows if row.title == vertex.title]
    return next(iter([*placed, *elsewhere]), None)


def _titles_before(row: StepRow, rows: Sequence[StepRow]) -> list[str]:
    return [item.title for item in rows if item.stage == row.stage and item.step < row.step]


def _file_digests(record: BuildRecord) -> Mapping[str, str]:
    rows = record.ingredients.get("files")
    if not isinstance(rows, list):
        return {}
    return {str(row[0]): str(row[1]).split(" ", 1)[0] for row in rows}


def _stage(vertex: Vertex) -> str:
    return f'stage "{vertex.stage}"' if vertex.stage else "the stage"


def _ago(when_ns: int) -> str:
    passed = (time.time_ns() - when_ns) / 1e9
    if not when_ns or passed < 0:
        return ""
    unit_s, unit = next((row for row in _UNITS if passed >= row[0]), _UNITS[-1])
    return f" {int(passed // unit_s)} {unit} ago"
