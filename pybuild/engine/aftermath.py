"""What comes after a build: garbage is collected where that is due, and a step says so.

Imports little, since a build in which nothing changed is over in no time; whether to look at all is
one look at a file's time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from builder.events import StepDone, StepMessage, StepStarted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.events import Event
    from store.root import Store

_SOON_NS = 60 * 10**9


def may_be_due(store: Store) -> bool:
    """Tell whether to look for garbage: not within a minute of the last look.

    The time of the last look is when the file locks/gc, that of the last collection, was read, so
    to speak. A new store has nothing to collect.
    """
    stamp = store.folder.path("locks", "gc")
    try:
        status = os.stat(stamp)
    except FileNotFoundError:
        open(stamp, "wb").close()
        return False
    now_ns = time.time_ns()
    if 0 <= now_ns - status.st_atime_ns < _SOON_NS:
        return False
    os.utime(stamp, ns=(now_ns, status.st_mtime_ns))
    return True


class Aftermath:
    """Listens to a build's events, passes them on, and adds those of what comes after it."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self._last_step = 0

    def __call__(self, event: Event) -> None:
        """Take one event of the build."""
        if isinstance(event, StepStarted):
            self._last_step = max(self._last_step, event.step)
        self._on_event(event)

    def collect(self, store: Store) -> None:
        """Collect garbage where that is due. A build that went well does not fail for it."""
        if not may_be_due(store):
            return
        from pybuild.engine.cachegc import collect_if_due
        from pybuild.errors import PybuildError
        from store.errors import StoreError

        began = time.monotonic()
        try:
            plan = collect_if_due(store)
            text = plan.summary if plan is not None and plan.going else ""
        except (StoreError, PybuildError, OSError) as error:
            text = f"not done: {error}"
        if text:
            number = self._last_step + 1
            self._on_event(StepStarted(number, "[internal] collect garbage of the build cache"))
            self._on_event(StepMessage(number, text))
            self._on_event(StepDone(number, time.monotonic() - began))
