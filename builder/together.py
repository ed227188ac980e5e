"""Several targets in one run: one graph, so that what they share is made once.

A target may stand on another one: its named context `target:NAME` is the end of that one. What one
target fails with does not hide what others fail with.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar

from builder.build import (
    Job,
    export_cache,
    exported,
    opened_job,
    run_jobs,
    with_what_is_there,
)
from builder.errors import BuildError, Canceled, LayersLost, StepsFailed, TargetFailed
from builder.events import OnEvent
from builder.export.exporting import Delivered
from builder.namedcontexts import target_of
from builder.request import BuildRequest, BuildResult
from builder.schedule import default_jobs
from builder.shared import Shared, new_shared
from builder.site import Progress, Result
from builder.stage import Stage
from builder.vertex import VertexID
from grammar.errors import GrammarError
from registry_client.errors import RegistryError
from runtime.cancel import Cancel
from store.errors import StoreError
from store.root import Store

T = TypeVar("T")
_FAILURES = (BuildError, GrammarError, StoreError, RegistryError, OSError)


def build_targets(
    store: Store,
    requests: Mapping[str, BuildRequest],
    on_event: OnEvent,
    cancel: Cancel,
    jobs: int | None = None,
) -> dict[str, BuildResult]:
    """Build targets, by their names, into `store`, and return what each came to.

    on_event, cancel: as for `build`. jobs: how many steps may run at once.
    Raises StepsFailed with a TargetFailed for each failure, Canceled, RuntimeFailure.
    """
    progress = Progress(on_event)
    with store.lease(), ExitStack() as stack:
        shared = new_shared(store, jobs or default_jobs(), stack)
        ready = _ready(requests, shared, progress, cancel, stack)
        failures: list[BuildError] = []

        def solve_and_export() -> dict[str, Delivered]:
            results = _solved(list(ready.values()), shared, progress, cancel)
            failures.clear()
            return _each(ready, failures, lambda job: exported(job, results))

        delivered = with_what_is_there(shared, progress, solve_and_export)

        def finished(job: Job) -> BuildResult:
            export_cache(job)
            job.opened.finish(delivered[job.target].image_id)
            return job.result(delivered[job.target])

        done = _each({name: ready[name] for name in delivered}, failures, finished)
        if failures:
            raise StepsFailed(failures)
        return {name: done[name] for name in requests}


def in_order(requests: Mapping[str, BuildRequest]) -> list[str]:
    """Return the names of targets, each after those that it stands on.

    Raises BuildError for one that stands on itself, and for a target that is not there.
    """
    found: list[str] = []

    def visit(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            circle = " → ".join((*way[way.index(name) :], name))
            raise BuildError(f"targets stand on each other: {circle}")
        if name in found:
            return
        for below in targets_below(requests[name]):
            if below not in requests:
                raise BuildError(f"target {name} stands on target {below}, which does not exist")
            visit(below, (*way, name))
        found.append(name)

    for name in requests:
        visit(name, ())
    return found


def targets_below(request: BuildRequest) -> list[str]:
    """Return the targets that are named contexts of a request."""
    return [target for _, where in request.contexts if (target := target_of(where)) is not None]


def _ready(
    requests: Mapping[str, BuildRequest],
    shared: Shared,
    progress: Progress,
    cancel: Cancel,
    stack: ExitStack,
) -> dict[str, Job]:
    """Make all targets ready. Raises StepsFailed with what each fails with."""
    ready: dict[str, Job] = {}
    failures: list[BuildError] = []

    def linked(name: str, platform: str) -> Stage:
        return end_of(ready[name], platform)

    for name in in_order(requests):
        if not all(below in ready for below in targets_below(requests[name])):
            continue  # the failure of that one is this one's
        job = opened_job(shared, requests[name], progress.of_target(name), cancel, linked)
        try:
            ready[name] = stack.enter_context(job)
        except Canceled:
            raise
        except _FAILURES as error:
            failures += _failures_of(name, error)
    if failures:
        raise StepsFailed(failures)
    return ready


def end_of(job: Job, platform: str) -> Stage:
    """Return the end of a target on a platform. Raises BuildError where it is not built for it."""
    plans = job.ready.plans
    for plan in plans:
        if plan.platform == platform or len(plans) == 1:
            return plan.target
    there = ", ".join(plan.platform for plan in plans)
    raise BuildError(f"target {job.target} is not built for {platform}", hint=f"it is for {there}")


def _failures_of(name: str, error: Exception) -> Sequence[BuildError]:
    """Return what a target failed with, each of several errors of one file by itself."""
    errors = getattr(error, "errors", None) or (error,)
    return [TargetFailed([name], each) for each in errors]


def _solved(
    jobs: Sequence[Job], shared: Shared, progress: Progress, cancel: Cancel
) -> dict[VertexID, Result]:
    try:
        return run_jobs(jobs, shared, progress, cancel)
    except TargetFailed as error:
        raise StepsFailed([error]) from error


def _each(
    jobs: Mapping[str, Job], failures: list[BuildError], do: Callable[[Job], T]
) -> dict[str, T]:
    """Do something for every target and return what it gave; what fails is added to `failures`.

    Raises Canceled and LayersLost at once.
    """
    done: dict[str, T] = {}
    for name, job in jobs.items():
        try:
            done[name] = do(job)
        except (Canceled, LayersLost):
            raise
        except _FAILURES as error:
            failures += _failures_of(name, error)
    return done
