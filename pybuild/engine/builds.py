"""Builds, as the Engine offers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.build import build as build_request
from builder.definition import read_dockerfile
from builder.ready import check_platform, parser
from builder.request import BuildResult
from builder.secrets import Secrets
from builder.site import Progress
from builder.sourcetree import opened_source
from builder.stage import env_pairs
from builder.stages import stages_of
from runtime.cancel import Cancel
from store.errors import StoreError
from store.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.contextlist import ContextListing
    from builder.definition import DockerfileText
    from builder.events import Event
    from builder.lint.check import CheckReport
    from builder.locking import Locking, Update
    from builder.outline import Outline, Target
    from builder.request import BuildRequest
    from pybuild.engine.engine import Engine
    from store.root import Store

__all__ = ["BuildResult", "build", "check", "context_files", "lock", "outline", "targets"]


def build(
    engine: Engine,
    request: BuildRequest,
    on_event: Callable[[Event], None],
    cancel: Cancel | None,
) -> BuildResult:
    """Build `request` into the engine's store; `cancel` stops it when it is set."""
    if cancel is not None:
        return build_request(engine.store, request, on_event, cancel)
    with Cancel() as own:
        return build_request(engine.store, request, on_event, own)


def check(engine: Engine, request: BuildRequest) -> CheckReport:
    """Lint the Dockerfile of `request`."""
    # Reaches for registries, which takes 100 ms to import.
    from builder.lint.check import check as check_request

    with engine.store_to_ask() as store:
        return check_request(store, request)


def lock(
    engine: Engine,
    request: BuildRequest,
    update: Update,
    on_event: Callable[[Event], None],
    cancel: Cancel | None,
) -> Locking:
    """Return what the lock of `request` said and what it is to say; nothing is written."""
    # Reaches for registries, which takes 100 ms to import.
    from builder.locking import lock_sources

    return lock_sources(engine.store, request, update, on_event, cancel or Cancel())


def outline(engine: Engine, request: BuildRequest) -> tuple[DockerfileText, Outline]:
    """Return what the target of `request` takes, and the text that says so."""
    from builder.outline import outline_of

    def image_env(name: str) -> dict[str, str]:
        try:
            image = store.images.find(str(Reference.parse(name)))
        except StoreError:
            return {}
        return dict(env_pairs(image.config.config.env))

    with engine.store_to_ask() as store:
        text = dockerfile_of(store, request)
        stages = stages_of(parser()(text.data, text.name), text.data)
        return text, outline_of(stages, request, check_platform(request), image_env)


def dockerfile_of(store: Store, request: BuildRequest) -> DockerfileText:
    """Return the Dockerfile of `request`, wherever its context is."""
    silent = Progress(lambda _event: None)
    secrets = Secrets(request.secrets)
    with store.lease(), opened_source(store, request, silent, Cancel(), secrets) as source:
        return read_dockerfile(request, source)


def context_files(engine: Engine, request: BuildRequest) -> ContextListing:
    """Return what is in the context of `request`, and why."""
    from builder.contextlist import list_context

    return list_context(engine.store, request)


def targets(engine: Engine, request: BuildRequest) -> tuple[DockerfileText, tuple[Target, ...]]:
    """Return the targets of a Dockerfile, and the text that says so."""
    from builder.outline import targets_of

    with engine.store_to_ask() as store:
        text = dockerfile_of(store, request)
    return text, targets_of(stages_of(parser()(text.data, text.name), text.data))
