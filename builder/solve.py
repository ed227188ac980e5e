"""Solving one vertex: from its inputs' results to its own, from the cache or by doing it."""

import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from builder.adoption import remember
from builder.cache import Key, look_up, make_key
from builder.errors import BuildError, Canceled, ContextChanged, InstructionError, StepFailed
from builder.events import PlannedStep
from builder.keptstep import mounts_of
from builder.ops import files, run  # noqa: F401  importing registers them
from builder.ops.mounts import Place
from builder.ops.registry import Ingredients, Made, describe, perform
from builder.ops.tries import tried
from builder.policy import facts_of, is_usable, note_run, runs_always
from builder.site import Result, Site, Step, origin_of
from builder.tree import FileChanged
from builder.vertex import (
    NO_POLICIES,
    BaseOp,
    CopyOp,
    DownloadOp,
    GitOp,
    LinkOp,
    MakeDirOp,
    RunOp,
    Vertex,
    VertexID,
)
from store.buildjournal import StepRow
from store.buildrecords import BuildRecord
from store.errors import NotStorable
from values.classes import dataclass, replace

if TYPE_CHECKING:
    from builder.causes import Cause

KINDS = {RunOp: "run", CopyOp: "copy", MakeDirOp: "workdir", GitOp: "git"}
_ATTEMPTS = 5
_COPIES = "no overlay can be mounted in {root}: each step copies the files below it"
# What says nothing of the instruction: a full disk, and what this process ran out of.
_NOT_OF_THE_STEP = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def planned_steps(vertices: Iterable[Vertex]) -> tuple[PlannedStep, ...]:
    """Return the steps that solving `vertices` (inputs before users) will be.

    A vertex that shows no step is left out; what it stands on takes its place.
    """
    shown: dict[VertexID, tuple[str, ...]] = {}
    steps = []
    for vertex in vertices:
        inputs = tuple(dict.fromkeys(name for item in vertex.inputs for name in shown[item]))
        if isinstance(vertex.op, LinkOp) or vertex.op == BaseOp(()):
            shown[vertex.id] = inputs
        else:
            shown[vertex.id] = (vertex.id,)
            steps.append(PlannedStep(vertex.id, inputs, vertex.name))
    return tuple(steps)


def solve(vertex: Vertex, inputs: Sequence[Result], site: Site, platform: str) -> Result:
    """Return the result of a vertex whose inputs are solved. Raises BuildError."""
    if site.cancel.is_set():
        raise Canceled
    match vertex.op:
        case BaseOp(chain, created):
            if chain:
                with site.step(vertex) as step:
                    step.cached()
            return Result(chain, created, origin=origin_of(vertex, inputs))
        case LinkOp():
            return linked(*inputs)
        case DownloadOp():
            # requests takes 100 ms to import.
            from builder.ops.remote import fetch

            return fetch(vertex.op, vertex, site)
        case GitOp():
            from builder.ops import git  # noqa: F401  importing registers it
    attempt = 1
    while True:
        try:
            return solve_layer(vertex, inputs, site, platform)
        except FileChanged as error:
            # The key was made of bytes that are gone: make it again of those that are there.
            site.forget_selections()
            if attempt == _ATTEMPTS:
                raise ContextChanged(error.path) from error
            attempt += 1


def linked(root: Result, layers: Result) -> Result:
    """Return what COPY --link makes: layers that were made on nothing, above a root."""
    origin = layers.origin if layers.origin and layers.origin.causes else root.origin
    return Result((*root.chain, *layers.chain), layers.created, origin=origin)


def solve_layer(vertex: Vertex, inputs: Sequence[Result], site: Site, platform: str) -> Result:
    """Return the result of a vertex that makes a layer. Raises BuildError, FileChanged."""
    began_ns = time.time_ns()
    with site.step(vertex) as step:
        with placed(vertex):
            known = described(vertex, inputs, site, step)
            ingredients = explained(known, vertex, inputs)
        key = make_key(KINDS[type(vertex.op)], inputs[0].chain, platform, ingredients)
        record = None if runs_always(vertex) else found(vertex, key, site, step)
        if record is None:
            with site.key_lock(key.digest):
                # Another process may have run it while this one waited. With no-cache only
                # a run that began after this build asked counts.
                since_ns = began_ns if runs_always(vertex) else 0
                accepts = None if runs_always(vertex) else usable(vertex, site)
                record = look_up(site.store, key, since_ns=since_ns, accepts=accepts)
                if record is None:
                    causes = site.causes(vertex, key, inputs)
                    return make(Miss(vertex, key, inputs, causes), site, step)
        admit(record, vertex, key, site, step)
        site.ledger.records[vertex.id] = record
        facts = mounts_of(Place(vertex, inputs, site))
        journal(vertex, key, site, step, "cached", facts=facts)
        step.cached()
    chain = *inputs[0].chain, *record.diff_ids
    return Result(chain, record.created, origin=origin_of(vertex, inputs))


def admit(record: BuildRecord, vertex: Vertex, key: Key, site: Site, step: Step) -> None:
    """Let the gate for secrets see what the cache gave. Raises SecretLeaked."""
    if site.gate is None:
        return
    try:
        site.gate.admit(vertex, record.diff_ids)
    except BuildError:
        journal(vertex, key, site, step, "failed")
        raise


def described(vertex: Vertex, inputs: Sequence[Result], site: Site, step: Step) -> Ingredients:
    """Return what a vertex's key is made of; a server that has to be asked may be asked again."""
    if not isinstance(vertex.op, GitOp):
        return describe(vertex.op, vertex, inputs, site)
    return tried(lambda: describe(vertex.op, vertex, inputs, site), vertex, site, step)


def explained(ingredients: Ingredients, vertex: Vertex, inputs: Sequence[Result]) -> Ingredients:
    """Return ingredients with what only explanations need: variables' kinds, the base's name."""
    facts = dict(vertex.facts)
    base = inputs[0].origin
    if base is not None and base.image:
        facts["base"] = [base.image, base.digest, *base.also]
    return replace(ingredients, noted={**ingredients.noted, **facts}) if facts else ingredients


def usable(vertex: Vertex, site: Site) -> Callable[[BuildRecord], bool]:
    """Return what tells whether a vertex's policies let a record be used."""
    return lambda record: is_usable(vertex, record, site.store.records)


def found(vertex: Vertex, key: Key, site: Site, step: Step) -> BuildRecord | None:
    """Return a result of a key from the store, else from a remote cache; None is a miss."""
    record = look_up(site.store, key, accepts=usable(vertex, site))
    if record is not None or site.imports is None:
        return record
    answer = site.imports.look_up(key)
    if answer is None:
        return None
    record, source = answer
    # As soon as its layers are here it is a result like any other.
    site.store.records.insert(record)
    if not is_usable(vertex, record, site.store.records):
        return None
    step.message(f"from {source}")
    return record


@contextmanager
def placed(vertex: Vertex) -> Iterator[None]:
    """Turn an OSError about the files of COPY, ADD, WORKDIR and mounts into an InstructionError."""
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_OF_THE_STEP or not isinstance(vertex.op, CopyOp | MakeDirOp | RunOp):
            raise
        cause = (error.strerror or str(error)).lower()
        is_path = isinstance(error.filename, str | bytes)  # for an fd it is a number
        named = os.fsdecode(error.filename) if is_path else ""
        path = "/" + re.sub(r"\A/proc/self/fd/[0-9]+", "", named).lstrip("/")
        if isinstance(vertex.op, MakeDirOp):
            where = vertex.op.path if path in ("/", vertex.op.path) else f"{vertex.op.path}: {path}"
            raise InstructionError(vertex.place, f"WORKDIR {where}: {cause}") from error
        verb = vertex.title.split(None, 1)[0].upper()
        where = f'"{path}": ' if named else ""
        raise InstructionError(vertex.place, f"{verb} failed: {where}{cause}") from error


@dataclass(frozen=True, slots=True)
class Miss:
    """A vertex that nothing is recorded for, and why that is so."""

    vertex: Vertex
    key: Key
    inputs: Sequence[Result]
    causes: "tuple[Cause, ...]"

    @property
    def facts(self) -> dict[str, object]:
        """What the journal says of it."""
        return {"why": [cause.to_fields() for cause in self.causes]}


def make(miss: Miss, site: Site, step: Step) -> Result:
    """Do what a vertex says, record the layer under its key, return the result."""
    vertex, key, inputs = miss.vertex, miss.key, miss.inputs
    for source in inputs:
        site.absent.need(source.chain)
    if site.store.snapshots.are_copies:
        site.progress.warn_once("PlainCopies", _COPIES.format(root=site.store.root))
    started_ns = time.time_ns()
    # Who looks while it runs, or after a kill, finds it.
    journal(vertex, key, site, step, "running", facts=miss.facts)
    try:
        with placed(vertex):
            made = perform(vertex.op, vertex, inputs, site, step)
    except BaseException as error:
        code = getattr(error, "exit_code", 0)
        status = "cancelled" if isinstance(error, Canceled) else "failed"
        facts = {
            **miss.facts,
            **({"failure": error.how, **error.facts} if isinstance(error, StepFailed) else {}),
        }
        journal(vertex, key, site, step, status, facts=facts, exit_code=code)
        if isinstance(error, NotStorable):
            raise InstructionError(vertex.place, str(error), hint=error.hint) from error
        raise
    if site.gate is not None:
        site.gate.passed(vertex, made.diff_id)
    window = step.try_began_ns or started_ns, time.time_ns()
    made = as_before(made, miss, site)
    created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    status = "done"
    if made.adopted is not None:
        # The record is of the run that made the layer: its files' times are of that moment.
        created, status = made.adopted.created, "adopted"
        window = made.adopted.started_ns, made.adopted.ended_ns
        step.message("the same files as before: nothing changes for what follows")
    record = BuildRecord(
        key=key.digest,
        diff_ids=(made.diff_id,),
        created=created,
        kind=KINDS[type(vertex.op)],
        title=vertex.title,
        dockerfile=site.dockerfile,
        stage=vertex.stage,
        step=vertex.step,
        ingredients=key.ingredients,
        started_ns=window[0],
        ended_ns=window[1],
        build_id=site.build_id,
    )
    site.store.records.insert(record)
    site.ledger.records[vertex.id] = record
    if made.adopted is not None:
        note_run(site.store.records, key.digest)
    if made.instruction is not None:
        remember(site.store, made.instruction, key.digest)
    facts = {**made.facts, **miss.facts, **mounts_of(Place(vertex, inputs, site))}
    journal(vertex, key, site, step, status, facts=facts, size_bytes=made.size_bytes)
    step.done()
    # What adopted a layer changes nothing: nobody follows it.
    causes = miss.causes if made.adopted is None else ()
    origin = origin_of(vertex, inputs, causes)
    return Result((*inputs[0].chain, made.diff_id), created, origin=origin)


def shell_of(vertex: Vertex) -> dict[str, object]:
    """Return what the journal says of a vertex for who enters its result; a RUN's record has it."""
    if not isinstance(vertex.op, CopyOp | MakeDirOp):
        return {}
    given = vertex.surroundings
    env = [f"{name}={value}" for name, value in given.env]
    return {"shell": {"env": env, "cwd": given.cwd, "user": given.user}}


def as_before(made: Made, miss: Miss, site: Site) -> Made:
    """Return what was made, adopted where a policy let it be made again and it is the same.

    RUN adopts by itself what its instruction made; the layer of a COPY says nothing of its moment.
    """
    if made.adopted is not None or miss.vertex.no_cache or miss.vertex.policies == NO_POLICIES:
        return made
    earlier = site.store.records.lookup(miss.key.digest)
    same = next((record for record in earlier if record.diff_ids == (made.diff_id,)), None)
    return made if same is None else replace(made, adopted=same)


def journal(  # noqa: PLR0913  the columns of one row
    vertex: Vertex,
    key: Key,
    site: Site,
    step: Step,
    status: str,
    *,
    facts: Mapping[str, object] | None = None,
    size_bytes: int = 0,
    exit_code: int = 0,
) -> None:
    """Write a step's row of the journal. facts: what is told of it beside its line."""
    is_running = status == "running"
    log = f"logs/{site.build_id}/{step.number}.log" if step.log_path or is_running else ""
    row = StepRow(
        build_id=site.build_id,
        number=step.number,
        title=vertex.title,
        stage=vertex.stage,
        step=vertex.step,
        key=key.digest,
        status=status,
        started_ns=step.started_ns,
        ended_ns=0 if is_running else time.time_ns(),
        size_bytes=size_bytes,
        exit_code=exit_code,
        log_path=log,
        details={
            "line": vertex.place.first_line,
            "name": vertex.name,
            **site.stands_on(vertex),
            **facts_of(vertex),
            **shell_of(vertex),
            **({"tries": step.tries} if step.tries > 1 else {}),
            **(facts or {}),
        },
    )
    site.store.journal.add_step(row)
    site.journaled[vertex.id] = step.number
    for other in site.sharers.get(vertex.id, ()):
        # It is there for them without having run for them.
        details = {**row.details, **other.stands_on(vertex)}
        shared = replace(row, build_id=other.build_id, details=details)
        if status in ("done", "adopted"):
            shared = replace(shared, status="cached", size_bytes=0, log_path="")
        other.store.journal.add_step(shared)
        other.journaled[vertex.id] = step.number
