"""rawjson progress: the events of a build as JSON lines, in the form of BuildKit's SolveStatus.

Each line is an object with any of `vertexes`, `statuses`, `logs` and `warnings`. Source: BuildKit
client/graph.go, its field names and what it leaves out when empty.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import BinaryIO

from builder.events import (
    BuildStarted,
    BuildWarning,
    Event,
    Planned,
    PlannedStep,
    StepCached,
    StepCanceled,
    StepDone,
    StepFailed,
    StepMessage,
    StepOutput,
    StepStarted,
    StepTransfer,
)
from store.digest import digest_of
from values.classes import dataclass

_Object = dict[str, object]
# By this ending BuildKit's displays tell a step that was stopped from one that failed.
_CANCELED = "context canceled"


@dataclass(slots=True)
class _Vertex:
    """A step that has begun. transfers: when each of them was first heard of."""

    plan: PlannedStep
    started_ns: int
    transfers: dict[str, int]

    def object(self) -> _Object:
        return {**_planned(self.plan), "started": timestamp(self.started_ns)}


class JSONProgress:
    """Writes a line for each event. An instance is the `on_event` of one build."""

    unseen_lines = 0

    def __init__(self, out: BinaryIO, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._out = out
        self._clock_ns = clock_ns
        self._planned: dict[str, PlannedStep] = {}
        self._vertices: dict[int, _Vertex] = {}
        self._definition = ""

    def __call__(self, event: Event) -> None:
        """Write what `event` says."""
        status = self._status(event)
        if status:
            line = json.dumps(status, separators=(",", ":"))
            self._out.write(line.encode() + b"\n")
            self._out.flush()

    def finish(self) -> None:
        """Do nothing: every line is out."""

    def abandon(self) -> None:
        """Do nothing: what is not out is in the steps' logs."""

    def suspend(self, stop: Callable[[], None]) -> None:
        """Stop: the terminal is as it was."""
        stop()

    def _status(self, event: Event) -> _Object:
        match event:
            case BuildStarted():
                return {}  # BuildKit's lines do not name the build
            case Planned(steps):
                self._planned.update((step.digest, step) for step in steps)
                return {"vertexes": [_planned(step) for step in steps]}
            case StepStarted():
                return {"vertexes": [self._begin(event).object()]}
            case StepOutput(number, fd, data, seconds):
                vertex = self._vertices[number]
                log: _Object = {
                    "vertex": vertex.plan.digest,
                    "stream": fd,
                    "data": b64encode(data).decode(),
                    "timestamp": timestamp(vertex.started_ns + int(seconds * 1e9)),
                }
                return {"logs": [log]}
            case StepMessage(number, text):
                now = timestamp(self._clock_ns())
                return {"statuses": [self._said(number, text, now)]}
            case StepTransfer():
                return {"statuses": [self._moved(event)]}
            case StepCached() | StepDone() | StepFailed() | StepCanceled():
                return {"vertexes": [self._ended(event)]}
            case BuildWarning():
                return {"warnings": [self._warning(event)]}

    def _begin(self, event: StepStarted) -> _Vertex:
        # A phase of the build is no vertex of the graph: its number and name make its digest.
        digest = event.digest or digest_of(f"{event.step} {event.name}".encode(errors="replace"))
        plan = self._planned.get(digest, PlannedStep(digest, (), event.name))
        if event.name.startswith("[internal] load build definition"):
            self._definition = digest
        vertex = self._vertices[event.step] = _Vertex(plan, self._clock_ns(), {})
        return vertex

    def _ended(self, event: StepCached | StepDone | StepFailed | StepCanceled) -> _Object:
        vertex = self._vertices[event.step]
        ended = {**vertex.object(), "completed": timestamp(self._clock_ns())}
        if isinstance(event, StepCached):
            ended["cached"] = True
        elif isinstance(event, StepFailed | StepCanceled):
            ended["error"] = event.error if isinstance(event, StepFailed) else _CANCELED
        return ended

    def _said(self, number: int, text: str, now: str) -> _Object:
        return {
            "id": text,
            "vertex": self._vertices[number].plan.digest,
            "current": 0,
            "timestamp": now,
            "started": now,
            "completed": now,
        }

    def _moved(self, event: StepTransfer) -> _Object:
        vertex, now_ns = self._vertices[event.step], self._clock_ns()
        status: _Object = {"id": event.what, "vertex": vertex.plan.digest}
        if event.total_bytes:
            status["total"] = event.total_bytes
        status["current"] = event.done_bytes
        status["timestamp"] = timestamp(now_ns)
        status["started"] = timestamp(vertex.transfers.setdefault(event.what, now_ns))
        if event.done:
            status["completed"] = timestamp(now_ns)
        return status

    def _warning(self, event: BuildWarning) -> _Object:
        where = f" (line {event.line})" if event.line is not None else ""
        short = f"{event.rule}: {event.message}{where}".encode(errors="backslashreplace")
        warning: _Object = {"level": 1, "short": b64encode(short).decode()}
        if self._definition:
            warning = {"vertex": self._definition, **warning}
        if event.detail:
            warning["detail"] = [b64encode(event.detail.encode()).decode()]
        if event.url:
            warning["url"] = event.url
        if event.line is not None:
            position = {"line": event.line}
            warning["range"] = [{"start": position, "end": position}]
        return warning


def _planned(plan: PlannedStep) -> _Object:
    shown: _Object = {"digest": plan.digest}
    if plan.inputs:
        shown["inputs"] = list(plan.inputs)
    shown["name"] = plan.name
    return shown


def timestamp(moment_ns: int) -> str:
    """Return a time as Go's JSON has it: RFC 3339, UTC, no zeros at the end of the fraction."""
    seconds, rest_ns = divmod(moment_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest_ns:09d}".rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"
