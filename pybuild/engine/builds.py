"""Builds, as the Engine offers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.build import BuildResult
from builder.build import build as build_request
from runtime.executor import Cancel

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.events import Event
    from builder.request import BuildRequest
    from pybuild.engine.engine import Engine

__all__ = ["BuildResult", "build"]


def build(
    engine: Engine,
    request: BuildRequest,
    on_event: Callable[[Event], None],
    cancel: Cancel | None,
) -> BuildResult:
    """Build `request` into the engine's store; `cancel` stops it when it is set."""
    return build_request(engine.store, request, on_event, cancel or Cancel())
