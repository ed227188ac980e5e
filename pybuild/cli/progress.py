"""Plain progress: the events of a build as lines, in BuildKit's form.

Owns the text only. Steps run side by side; the lines of one step are kept together under its
heading, and the heading is repeated when the text comes back to it:

    #5 [build 2/4] RUN apt-get update
    #5 0.312 a line of output
    #5 DONE 1.2s
"""

from __future__ import annotations

from typing import TextIO

from builder.events import (
    BuildWarning,
    Event,
    StepCached,
    StepCanceled,
    StepDone,
    StepFailed,
    StepMessage,
    StepOutput,
    StepStarted,
)
from values.classes import dataclass, field


@dataclass(slots=True)
class _Step:
    """A step that has not ended: its name and the line it has begun, one for each fd."""

    name: str
    begun: dict[int, tuple[float, bytes]] = field(default_factory=dict)


class PlainProgress:
    """Writes events to `out` as they come. An instance is the `on_event` of one build."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._steps: dict[int, _Step] = {}
        self._names: dict[int, str] = {}
        self._current: int | None = None
        self._warnings: list[BuildWarning] = []

    def __call__(self, event: Event) -> None:
        """Write what `event` says."""
        text = self._text(event)
        if text:
            self._out.write(text)
            self._out.flush()

    def finish(self) -> None:
        """Write what belongs at the end: the warnings."""
        if not self._warnings:
            return
        count = len(self._warnings)
        lines = [f"{count} warning{'s' if count > 1 else ''} found:"]
        for warning in self._warnings:
            where = f" (line {warning.line})" if warning.line is not None else ""
            lines.append(f" - {warning.rule}: {warning.message}{where}")
        self._out.write("\n".join(lines) + "\n")
        self._out.flush()

    def _text(self, event: Event) -> str:
        match event:
            case StepStarted(step, name):
                self._steps[step] = _Step(name)
                self._names[step] = name
                return self._heading(step)
            case StepOutput(step, fd, data, seconds):
                return self._lines(step, self._whole_lines(step, fd, data, seconds))
            case StepMessage(step, text):
                return self._lines(step, text.splitlines())
            case StepCached(step):
                return self._end(step, "CACHED")
            case StepDone(step, seconds):
                return self._end(step, f"DONE {seconds:.1f}s")
            case StepFailed(step, error, _):
                return self._end(step, f"ERROR: {error}")
            case StepCanceled(step):
                return self._end(step, "CANCELED")
            case BuildWarning():
                self._warnings.append(event)
                return ""

    def _heading(self, step: int) -> str:
        """Return what must stand before a line of `step`."""
        if self._current == step:
            return ""
        left = ""
        if self._current is not None:
            # The text leaves a step that has not ended; BuildKit marks it the same way.
            left = f"#{self._current} ...\n\n"
        self._current = step
        return f"{left}#{step} {self._names.get(step, '')}\n"

    def _lines(self, step: int, lines: list[str]) -> str:
        if not lines:
            return ""
        return self._heading(step) + "".join(f"#{step} {line}\n" for line in lines)

    def _end(self, step: int, word: str) -> str:
        text = self._lines(step, [*self._rests(step), word]) + "\n"
        self._steps.pop(step, None)
        self._current = None
        return text

    def _whole_lines(self, step: int, fd: int, data: bytes, seconds: float) -> list[str]:
        """Return the lines that `data` completes; the rest waits for its newline."""
        begun = self._steps.setdefault(step, _Step("")).begun
        since, rest = begun.pop(fd, (seconds, b""))
        *whole, last = (rest + data).split(b"\n")
        if last:
            begun[fd] = (seconds if whole else since, last)
        times = [since if rest else seconds] + [seconds] * len(whole)
        return [_line(when, line) for when, line in zip(times, whole, strict=False)]

    def _rests(self, step: int) -> list[str]:
        state = self._steps.get(step)
        if state is None:
            return []
        return [_line(when, rest) for when, rest in state.begun.values()]


def _line(seconds: float, line: bytes) -> str:
    # A carriage return would overwrite the prefix; what a terminal shows in the end is its last
    # part.
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    return f"{seconds:.3f} {shown.decode(errors='replace')}"
