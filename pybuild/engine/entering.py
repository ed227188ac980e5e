"""Entering a step of a build: which one a word means, in what state it is, what was changed inside.

Owns the way from the journal to a state; making it ready is `builder/entering`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.engine import journal
from pybuild.engine.explanations import LAST
from pybuild.errors import PybuildError

if TYPE_CHECKING:
    from builder.entering import EntryRequest, State
    from builder.keptstep import Given
    from pybuild.engine.journal import JournalBuild, JournalStep
    from store.buildrecords import BuildRecord
    from store.keptsteps import KeptStep
    from store.root import Store

_LINE = re.compile(r"[lL]([0-9]+)")
_IN_STAGE = re.compile(r"(.*?)[ /]?([0-9]+)(?:/[0-9]+)?")


def run(store: Store, name: str, request: EntryRequest, on_note: Callable[[str], None]) -> int:
    """Run a shell, or what is asked for, in a step's state with our stdio; return its exit code.

    name: `BUILD`, `BUILD:STEP` or `:STEP`, see `state_of`. on_note: told what of the step's mounts
    cannot be there. Only in the main thread. Raises PybuildError, BuildError, StoreError,
    RuntimeFailure.
    """
    from builder.entering import entered
    from runtime.executor import execute_in_foreground

    state = state_of(store, name)
    for text in state.left_out:
        on_note(text)
    with entered(store, state, request) as execution:
        return execute_in_foreground(execution).code


def state_of(store: Store, name: str) -> State:
    """Return the state that a word means.

    The build is the last one unless it is named. Without a step it is the one that failed, or of a
    build in which none did the last one. Raises PybuildError, StoreError.
    """
    from store.keptsteps import FAILED, kept_steps

    word, _, wanted = name.partition(":")
    build = journal.show(store, word or LAST)
    kept = kept_steps(store, build.build.build_id)
    failed = {step.number: step for step in kept if step.role == FAILED}
    if not wanted and len(failed) > 1:
        raise ambiguous(build, "several steps failed", sorted(failed))
    if not wanted and failed:
        # Also of a build that was killed before it could say so in the journal.
        return failed_state(store, *failed.values())
    step = chosen(build, wanted, failed) if wanted else unnamed(build)
    if step.row.number in failed:
        return failed_state(store, failed[step.row.number])
    return made_state(store, build, step)


def unnamed(build: JournalBuild) -> JournalStep:
    """Return the step that is meant where none is named and nothing is kept of one that failed.

    Raises PybuildError.
    """
    name = build.build.build_id
    bad = [step for step in build.steps if step.row.status == "failed"]
    if bad:
        raise nothing_kept(build, bad[0])
    inputs = {number for step in build.steps for number in step.inputs}
    ends = [step for step in build.steps if step.row.number not in inputs]
    if not ends:
        raise PybuildError(
            f"build {name}: there is no step in the journal that could be entered",
            hint=f"pybuild builds show {name} tells what became of it",
        )
    return ends[-1]


def chosen(build: JournalBuild, word: str, failed: dict[int, KeptStep]) -> JournalStep:
    """Return the step that a word means. Raises PybuildError for none and for several.

    It is a number, a line of the Dockerfile (`L12`), a place in a stage (`web 3/5`, `web/3`) or a
    part of the step's text.
    """
    found = [step for step in build.steps if is_meant(step, word)]
    if not found and not word.isdecimal() and not _LINE.fullmatch(word):
        found = [step for step in build.steps if word.lower() in step.name.lower()]
    name = build.build.build_id
    if not found:
        hint = f"`pybuild builds show {name}` lists its steps"
        raise PybuildError(f'build {name}: no step "{word}"', hint=hint)
    # Of several one that failed is what someone looks for.
    kept = [step for step in found if step.row.number in failed]
    found = kept if len(kept) == 1 else found
    if len(found) > 1:
        numbers = [step.row.number for step in found]
        raise ambiguous(build, f'"{word}" means several steps', numbers)
    return found[0]


def is_meant(step: JournalStep, word: str) -> bool:
    """Tell whether a step has this number, stands on this line, or at this place."""
    if word.isdecimal():
        return step.row.number == int(word)
    line = _LINE.fullmatch(word)
    if line is not None:
        return step.line == int(line[1])
    place = _IN_STAGE.fullmatch(word.strip("[]"))
    return place is not None and (step.row.stage, step.row.step) == (place[1], int(place[2]))


def ambiguous(build: JournalBuild, what: str, numbers: Sequence[int]) -> PybuildError:
    """Return the error for a word that means several steps."""
    name = build.build.build_id
    choice = " or ".join(f"pybuild enter {name[:8]}:{number}" for number in numbers)
    return PybuildError(f"build {name}: {what}", hint=choice)


def nothing_kept(build: JournalBuild, step: JournalStep) -> PybuildError:
    """Return the error for a failed step of which nothing is kept."""
    name, number = build.build.build_id, step.row.number
    word = step.row.title.split(None, 1)[0].upper()
    if word != "RUN":
        below = next(iter(step.inputs), 0)
        hint = f"enter what it stands on: pybuild enter {name[:8]}:{below}" if below else None
        return PybuildError(
            f"build {name}: step {number} failed before anything was made ({word})", hint=hint
        )
    return PybuildError(
        f"build {name}: nothing is kept of step {number}, which failed",
        hint="it was pruned, or built with --no-keep-failed; build again to have it",
    )


def failed_state(store: Store, kept: KeptStep) -> State:
    """Return the state that a failed step left. Raises Corrupt."""
    from builder.entering import State
    from builder.keptstep import given_of

    chain = store.snapshots.chain_of(kept.snapshot)
    given = given_of(kept)
    return State(kept.build_id, kept.number, kept.name, chain, kept.snapshot, given)


def made_state(store: Store, build: JournalBuild, step: JournalStep) -> State:
    """Return the state after a step that did not fail. Raises PybuildError, Corrupt."""
    from builder.entering import State, made_before
    from builder.keptstep import given_from
    from store.digest import DiffID

    row, name = step.row, build.build.build_id
    if row.status == "failed":
        raise nothing_kept(build, step)
    stopped = {"cancelled": "was stopped", "killed": "was killed", "running": "is still running"}
    if row.status in stopped:
        raise PybuildError(
            f"build {name}: step {row.number} {stopped[row.status]}, nothing is kept of it",
            hint=f"pybuild builds show {name} tells which step failed",
        )
    record = record_of(store, build, step)
    if record is None:
        raise PybuildError(
            f"build {name}: what step {row.number} made was pruned", hint="build it again"
        )
    note = row.details.get("given")
    given = given_from(note, name, row.number) if isinstance(note, dict) else _given(record, step)
    chain = (*map(DiffID, texts(record.ingredients.get("parent"))), *record.diff_ids)
    return made_before(State(name, row.number, step.name, chain, "", given), store)


def _given(record: BuildRecord, step: JournalStep) -> Given:
    """Return what a process gets in a step that had no mounts."""
    from builder.keptstep import Given
    from builder.vertex import RunOp
    from store import platforms

    known, row = record.ingredients, step.row
    shell = row.details.get("shell")
    given = shell if isinstance(shell, dict) else known
    platform = str(known.get("platform") or platforms.host())
    env = tuple(item.partition("=")[::2] for item in texts(given.get("env")))
    op = RunOp(
        args=(),
        env=env,
        cwd=str(given.get("cwd") or "/"),
        user=str(given.get("user") or ""),
        network="none" if known.get("network") == "none" else "default",
        hostname=str(known.get("hostname") or "buildkitsandbox"),
        platform=platform,
        security=str(known.get("security") or "sandbox"),
    )
    return Given(op, (), frozenset(), {}, (), ("Dockerfile", step.line))


def record_of(store: Store, build: JournalBuild, step: JournalStep) -> BuildRecord | None:
    """Return the record of what a step made, if its layers are here: this build's, else another."""
    from store.digest import DiffID, Digest

    records = store.records.every(Digest(step.row.key))
    own = [record for record in records if record.build_id == build.build.build_id]
    for record in [*own, *records]:
        chain = [*map(DiffID, texts(record.ingredients.get("parent"))), *record.diff_ids]
        if all(map(store.layers.has, chain)):
            return record
    return None


def texts(value: object) -> tuple[str, ...]:
    """Return a JSON value as texts, none where it is no list."""
    return tuple(map(str, value)) if isinstance(value, list) else ()


def adopted(store: Store, name: str) -> tuple[State, Sequence[str]]:
    """Return a state and the lines that say what was changed inside it. Raises PybuildError."""
    from builder.entering import entry_of
    from pybuild.engine.insidechanges import lines_of

    state = state_of(store, name)
    entry = entry_of(store, state)
    if entry is None:
        raise PybuildError(
            f"build {state.build_id}: nobody has entered its step {state.number}",
            hint=f"pybuild enter {state.build_id[:8]}:{state.number} does",
        )
    with suppress(FileNotFoundError):
        return state, lines_of(store, state, entry)
    raise PybuildError(f"build {state.build_id}: step {state.number} was just pruned")
