"""How builds of the journal ended, and their steps: a build that was killed could not say so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from values.classes import replace

if TYPE_CHECKING:
    from store.buildjournal import BuildRow, StepRow
    from store.journal import Head


def status_of(build: BuildRow) -> str:
    """Return what became of a build: one of STATUSES."""
    running = build.status == "running"
    return "killed" if running and not _is_alive(build.details.get("process")) else build.status


def true_row(row: StepRow, build_status: str) -> StepRow:
    """Return a step's row as it is now, where its build may have ended before it."""
    if row.status != "running" or build_status == "running":
        return row
    return replace(row, status="killed" if build_status == "killed" else "cancelled")


def is_running(head: Head) -> bool:
    """Tell whether a build runs at this moment."""
    if head.status != "running":
        return False
    try:
        details = json.loads(head.details)
    except ValueError:
        return False
    return isinstance(details, dict) and _is_alive(details.get("process"))


def _is_alive(process: object) -> bool:
    """Tell whether the process with a pid and a time of start, in clock ticks, is there."""
    from runtime.container import start_time

    if not isinstance(process, list) or len(process) != 2:
        return False
    pid, started = process
    return bool(started) and start_time(pid)[0] == started
