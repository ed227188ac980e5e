"""Plain progress: the events of a build as lines, in BuildKit's form.

    #5 [build 2/4] RUN apt-get update
    #5 0.312 a line of output
    #5 DONE 1.2s

Steps run side by side, and text has one place: it stays with a step until that one ends or others
have waited long enough; what the others say meanwhile is held, and nothing is dropped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from builder.events import (
    BuildWarning,
    Event,
    Planned,
    StepCached,
    StepCanceled,
    StepDone,
    StepFailed,
    StepMessage,
    StepOutput,
    StepStarted,
    StepTransfer,
)
from pybuild.cli.loglines import LogLines
from pybuild.cli.table import human_size
from values.classes import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

# How long a step's text may wait for another's, and how much of it.
_HOLD_S = 2.0
_HOLD_BYTES = 1 << 18
_TICK_S = 0.5
# A transfer is worth a line after so much of it and so long, or after that long in any case.
_SHARE = 0.05
_SHARE_S = 1.0
_PAUSE_S = 5.0
# What took no longer is said without its time.
_INSTANT_S = 0.01


@dataclass(slots=True)
class _Step:
    """A step that has not ended. held_since: when the oldest text that waits was said."""

    number: int
    name: str
    log: LogLines = field(default_factory=LogLines)
    held: list[bytes] = field(default_factory=list)
    held_bytes: int = 0
    held_since: float | None = None
    transfers: dict[str, tuple[int, float, float]] = field(default_factory=dict)


class PlainProgress:
    """Writes events to `out` as they come. An instance is the `on_event` of one build."""

    unseen_lines = 0

    def __init__(self, out: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._steps: dict[int, _Step] = {}
        self._current: int | None = None
        self._empty = True
        self._warnings: list[BuildWarning] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        """Write what `event` says, or hold it until its step has the text."""
        with self._lock:
            self._take(event)
            self._pass_on()

    def tick(self) -> None:
        """Give the text to a step that has waited long enough; called now and then."""
        with self._lock:
            self._pass_on()

    def finish(self) -> None:
        """Write what is held, and what belongs at the end: the warnings."""
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        with self._lock:
            for step in self._steps.values():
                self._say(step, _shown_lines(step.log.rest()))
            for step in sorted(self._waiting(), key=lambda step: step.number):
                self._give_text(step)
            if self._warnings:
                self._write(b"\n" + warnings_text(self._warnings).encode())

    def abandon(self) -> None:
        """Do nothing: what is not out is in the steps' logs."""

    def suspend(self, stop: Callable[[], None]) -> None:
        """Stop: the terminal is as it was."""
        stop()

    def _take(self, event: Event) -> None:
        match event:
            case StepStarted(number, name):
                self._steps[number] = step = _Step(number, name)
                self._say(step, [])
            case StepOutput(number, fd, data, seconds):
                step = self._steps[number]
                self._say(step, _shown_lines(step.log.feed(fd, data, seconds)))
            case StepMessage(number, text, done):
                self._say(self._steps[number], _message(f"{text} done" if done else text))
            case StepTransfer(number):
                self._say(self._steps[number], self._transfer(self._steps[number], event))
            case StepCached() | StepDone() | StepFailed() | StepCanceled():
                self._end(event.step, _last_word(event))
            case BuildWarning():
                self._warnings.append(event)
            case Planned():
                pass

    def _say(self, step: _Step, lines: list[bytes]) -> None:
        """Write lines of a step if it has the text or can have it, else hold them."""
        prefix = f"#{step.number} ".encode()
        text = b"".join(prefix + line + b"\n" for line in lines)
        if self._current == step.number:
            self._write(text)
            return
        step.held.append(text)
        step.held_bytes += len(text)
        if step.held_since is None:
            step.held_since = self._clock()
        if self._current is None:
            self._give_text(step)
        elif self._ticker is None:
            self._ticker = threading.Thread(target=self._keep_ticking, daemon=True)
            self._ticker.start()

    def _end(self, number: int, word: str) -> None:
        step = self._steps.pop(number)
        self._say(step, [*_shown_lines(step.log.rest()), word.encode(errors="backslashreplace")])
        if self._current != number:
            self._give_text(step)
        self._current = None
        waiting = self._waiting()
        if waiting:
            self._give_text(waiting[0])

    def _waiting(self) -> list[_Step]:
        """Return the steps whose text is held, the one that has waited longest first."""
        held = [step for step in self._steps.values() if step.held_since is not None]
        return sorted(held, key=lambda step: step.held_since or 0.0)

    def _pass_on(self) -> None:
        waiting = self._waiting()
        if not waiting:
            return
        first = waiting[0]
        since = first.held_since or 0.0
        if self._clock() - since >= _HOLD_S:
            self._give_text(first)
        elif sum(step.held_bytes for step in waiting) > _HOLD_BYTES:
            self._give_text(max(waiting, key=lambda step: step.held_bytes))

    def _give_text(self, step: _Step) -> None:
        """Let a step have the text: its heading, and what it has said so far."""
        left = b"" if self._current is None else f"#{self._current} ...\n".encode()
        blank = b"" if self._empty else b"\n"
        heading = f"#{step.number} {step.name}\n".encode(errors="backslashreplace")
        self._current, self._empty = step.number, False
        self._write(b"".join([left, blank, heading, *step.held]))
        step.held, step.held_bytes, step.held_since = [], 0, None

    def _write(self, text: bytes) -> None:
        if text:
            self._out.write(text)
            self._out.flush()

    def _transfer(self, step: _Step, event: StepTransfer) -> list[bytes]:
        now = self._clock()
        began, moved, at = now, 0, float("-inf")
        if event.what in step.transfers:
            moved, at, began = step.transfers[event.what]
        share = (event.done_bytes - moved) / (event.total_bytes or 1)
        needed_s = _SHARE_S if share >= _SHARE else _PAUSE_S
        if not event.done and now - at < needed_s:
            return []
        step.transfers[event.what] = event.done_bytes, now, began
        took = f" {now - began:.1f}s" if now - began > _INSTANT_S else ""
        return [f"{event.what} {transferred(event)}{f'{took} done' if event.done else ''}".encode()]

    def _keep_ticking(self) -> None:
        while not self._ended.wait(_TICK_S):
            try:
                self.tick()
            except OSError:
                return  # the next event finds out, where somebody listens


def transferred(event: StepTransfer) -> str:
    """Return how much has come or gone, in words."""
    if event.total_bytes:
        return f"{human_size(event.done_bytes)} / {human_size(event.total_bytes)}"
    return human_size(event.done_bytes)


def warnings_text(warnings: list[BuildWarning]) -> str:
    """Return all warnings as lines under their number."""
    count = len(warnings)
    lines = [f"{count} warning{'s' if count > 1 else ''} found:"]
    for warning in warnings:
        where = f" (line {warning.line})" if warning.line is not None else ""
        lines.append(f" - {warning.rule}: {warning.message}{where}")
    return "\n".join(lines).encode(errors="backslashreplace").decode() + "\n"


def _last_word(event: StepCached | StepDone | StepFailed | StepCanceled) -> str:
    match event:
        case StepCached():
            return "CACHED"
        case StepDone(_, seconds):
            return f"DONE {seconds:.1f}s"
        case StepFailed(_, error, _):
            return f"ERROR: {error}"
        case StepCanceled():
            return "CANCELED"


def _message(text: str) -> list[bytes]:
    return [line.encode(errors="backslashreplace") for line in text.splitlines()]


def _shown_lines(lines: list[tuple[float, bytes]]) -> list[bytes]:
    return [f"{_seconds(when)} ".encode() + line for when, line in lines]


def _seconds(when: float) -> str:
    """Return a time with as many digits as BuildKit gives it."""
    digits = 3 if when < 10 else 2 if when < 100 else 1
    return f"{when:.{digits}f}"
