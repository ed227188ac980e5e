"""Builds, as the Engine offers them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from builder.build import build as build_request
from builder.build import check_platform, parser
from builder.definition import read_dockerfile
from builder.events import StepDone, StepMessage, StepStarted
from builder.request import BuildResult
from builder.secrets import Secrets
from builder.site import Progress
from builder.sourcetree import opened_source
from builder.stage import env_pairs
from builder.stages import stages_of
from pybuild.errors import PybuildError
from runtime.cancel import Cancel
from store.errors import StoreError
from store.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.definition import DockerfileText
    from builder.events import Event
    from builder.lint.check import CheckReport
    from builder.outline import Outline, Target
    from builder.request import BuildRequest
    from pybuild.engine.engine import Engine
    from store.root import Store

_SOON_S = 60.0

__all__ = ["BuildResult", "build", "check", "outline", "targets"]


def build(
    engine: Engine,
    request: BuildRequest,
    on_event: Callable[[Event], None],
    cancel: Cancel | None,
) -> BuildResult:
    """Build `request` into the engine's store; `cancel` stops it when it is set.

    Then garbage is collected, where that is due; a step says what went.
    """
    last_step = 0

    def numbered(event: Event) -> None:
        nonlocal last_step
        if isinstance(event, StepStarted):
            last_step = max(last_step, event.step)
        on_event(event)

    result = build_request(engine.store, request, numbered, cancel or Cancel())
    for event in collected(engine, last_step + 1):
        on_event(event)
    return result


def collected(engine: Engine, number: int) -> Iterator[Event]:
    """Collect garbage where that is due; yield the events of a step `number` that says so.

    A build that went well does not fail for it.
    """
    if not may_be_due(engine.store):
        return
    from pybuild.engine.cachegc import collect_if_due

    began = time.monotonic()
    try:
        plan = collect_if_due(engine.store)
        text = plan.summary if plan is not None and plan.going else ""
    except (StoreError, PybuildError, OSError) as error:
        text = f"not done: {error}"
    if text:
        yield StepStarted(number, "[internal] collect garbage of the build cache")
        yield StepMessage(number, text)
        yield StepDone(number, time.monotonic() - began)


def may_be_due(store: Store) -> bool:
    """Tell whether to look for garbage: not within a minute of the last look.

    The time of the file locks/gc is that of the last look; a new store has nothing to collect.
    """
    stamp = store.folder.path("locks", "gc")
    try:
        return not 0 <= time.time() - os.stat(stamp).st_mtime < _SOON_S
    except FileNotFoundError:
        open(stamp, "wb").close()
        return False


def check(engine: Engine, request: BuildRequest) -> CheckReport:
    """Lint the Dockerfile of `request`."""
    # Reaches for registries, which takes 100 ms to import.
    from builder.lint.check import check as check_request

    return check_request(engine.store, request)


def outline(engine: Engine, request: BuildRequest) -> tuple[DockerfileText, Outline]:
    """Return what the target of `request` takes, and the text that says so."""
    from builder.outline import outline_of

    def image_env(name: str) -> dict[str, str]:
        try:
            image = engine.store.images.find(str(Reference.parse(name)))
        except StoreError:
            return {}
        return dict(env_pairs(image.config.config.env))

    text = dockerfile_of(engine, request)
    stages = stages_of(parser()(text.data, text.name), text.data)
    return text, outline_of(stages, request, check_platform(request), image_env)


def dockerfile_of(engine: Engine, request: BuildRequest) -> DockerfileText:
    """Return the Dockerfile of `request`, wherever its context is."""
    silent = Progress(lambda _event: None)
    secrets = Secrets(request.secrets)
    store = engine.store
    with store.lease(), opened_source(store, request, silent, Cancel(), secrets) as source:
        return read_dockerfile(request, source)


def targets(engine: Engine, request: BuildRequest) -> tuple[DockerfileText, tuple[Target, ...]]:
    """Return the targets of a Dockerfile, and the text that says so."""
    from builder.outline import targets_of

    text = dockerfile_of(engine, request)
    return text, targets_of(stages_of(parser()(text.data, text.name), text.data))
