"""A build's row in the journal, from its beginning to its end, however it ends."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from builder.errors import Canceled, StepsFailed, TargetFailed
from builder.ready import Definition
from builder.request import BuildRequest
from runtime.container import start_time
from store.buildjournal import BuildRow
from store.digest import Digest
from store.root import Store
from values.classes import dataclass, replace


@dataclass(slots=True)
class OpenBuild:
    """A build that has its row. target: its name where it is one of several, else empty."""

    store: Store
    row: BuildRow
    target: str = ""
    is_done: bool = False

    def finish(self, image_id: Digest | None) -> BuildRow:
        """Close the row as done and return it."""
        self.row = replace(
            self.row, status="done", image_id=image_id or "", ended_ns=time.time_ns()
        )
        self.store.journal.end_build(self.row)
        self.is_done = True
        return self.row

    def fail(self, error: BaseException) -> None:
        """Close the row as failed or cancelled, unless it is closed already."""
        if self.is_done:
            return
        stopped = isinstance(error, Canceled | KeyboardInterrupt)
        if isinstance(error, StepsFailed) and self.target:
            # It is stopped by the failure of others, unless it failed too.
            own = [each for each in error.errors if self.target in _targets_of(each)]
            error, stopped = (own[0], False) if own else (Canceled(), True)
        status = "cancelled" if stopped else "failed"
        ended = replace(self.row, status=status, error=str(error), ended_ns=time.time_ns())
        self.store.journal.end_build(ended)


def _targets_of(error: BaseException) -> tuple[str, ...]:
    return error.targets if isinstance(error, TargetFailed) else ()


@contextmanager
def journaled(
    store: Store,
    request: BuildRequest,
    definition: Definition,
    target: str = "",
) -> Iterator[OpenBuild]:
    """Open the build's row in the journal; an exception closes it as failed or cancelled.

    target: its name where it is one of several.
    """
    details: dict[str, object] = {"tags": list(request.tags), "target": request.target or ""}
    if target:
        details["bake"] = target
    if definition.rules is not None:
        details["ignore"] = list(definition.rules.patterns)
    row = BuildRow(
        build_id=os.urandom(8).hex(),
        started_ns=time.time_ns(),
        dockerfile=definition.journal_name,
        context=definition.source.shown,
        details=details,
    )
    # While it runs its row says who builds, so that a build that was killed is known.
    process = [os.getpid(), start_time(os.getpid())[0]]
    store.journal.begin_build(replace(row, details={**details, "process": process}))
    opened = OpenBuild(store, row, target)
    try:
        yield opened
    except BaseException as error:
        opened.fail(error)
        raise
