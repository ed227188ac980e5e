"""Live progress on a terminal: steps with their running time and the tail of their output.

Owns what is shown; how it gets onto the screen is the painter's. It is drawn ten times a second
at most, by a thread of its own, however fast events come.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

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
from pybuild.cli.celltext import aligned, plain_text
from pybuild.cli.colours import Colours
from pybuild.cli.painter import Painter, Row
from pybuild.cli.plainprogress import transferred, warnings_text
from pybuild.cli.progress import UNSEEN_LINES
from values.classes import dataclass, field

PAINT_S = 0.1
_PATIENCE_S = 2.0  # with a terminal that is slow to take a picture
DEFAULT_LOG_LINES = 6
_LONGEST_BYTES = 1 << 12
_INDENT = " => => "


@dataclass(slots=True)
class _Transfer:
    """A layer on its way."""

    event: StepTransfer
    began: float
    ended: float | None = None


class _Tail:
    """The last lines that a step wrote, as a terminal would have them."""

    def __init__(self, count: int) -> None:
        self._lines: deque[bytes] = deque(maxlen=count)
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take more output. Of a line only its end is kept: more is never seen."""
        *whole, rest = (self._rest + data).split(b"\n")
        self._lines.extend(line[-_LONGEST_BYTES:] for line in whole)
        self._rest = rest[-_LONGEST_BYTES:]

    def last(self, count: int) -> list[str]:
        """Return at most `count` lines, the one that is begun among them."""
        lines = [*self._lines, self._rest] if self._rest else list(self._lines)
        return [plain_text(line.decode(errors="replace")) for line in lines[-count:]]


@dataclass(slots=True)
class _Step:
    """A step that has begun. end: the word before its name, None while it runs."""

    name: str
    began: float
    tail: _Tail
    transfers: dict[str, _Transfer] = field(default_factory=dict)
    seconds: float = 0.0
    end: str | None = None

    def rows(self, now: float, width: int, colours: Colours) -> list[Row]:
        """Return the step's own line and, while it runs, one for each of its layers."""
        seconds = now - self.began if self.end is None else self.seconds
        style = {"ERROR": colours.error, "CANCELED": colours.cancel, None: ""}
        name = f"{self.end} {self.name}" if self.end else self.name
        line = aligned(f" => {name}", f"{seconds:.1f}s", width)
        rows = [Row(line, style.get(self.end, colours.run))]
        for transfer in self.transfers.values() if self.end is None else ():
            took = (transfer.ended if transfer.ended is not None else now) - transfer.began
            text = f"{_INDENT}{plain_text(transfer.event.what)}"
            right = f"{transferred(transfer.event)} {took:.1f}s"
            done = colours.run if transfer.ended is not None else ""
            rows.append(Row(aligned(text, right, width), done))
        return rows

    def output(self, count: int, colours: Colours) -> list[Row]:
        """Return the last lines of the output."""
        return [Row(f"{_INDENT}# {line}", colours.faint) for line in self.tail.last(count)]


class LiveProgress:
    """Takes events and draws them. An instance is the `on_event` of one build."""

    unseen_lines = UNSEEN_LINES

    def __init__(
        self,
        painter: Painter,
        colours: Colours,
        log_lines: int = DEFAULT_LOG_LINES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._painter = painter
        self._colours = colours
        self._log_lines = log_lines
        self._clock = clock
        self._began = clock()
        self._planned: set[str] = set()
        self._steps: dict[int, _Step] = {}
        self._order: dict[str, _Step] = {}
        self._warnings: list[BuildWarning] = []
        self._lock = threading.RLock()  # a signal's handler may come to the thread that holds it
        self._ended = threading.Event()
        self._painting = threading.Thread(target=self._keep_painting, daemon=True)

    def start(self) -> LiveProgress:
        """Begin to draw; `finish` ends it."""
        self._painting.start()
        return self

    def __call__(self, event: Event) -> None:
        """Take note of `event`; it is drawn with the next picture."""
        with self._lock:
            self._take(event)

    def finish(self) -> None:
        """Leave every step on the screen, and the cursor below them."""
        self._ended.set()
        try:
            if self._painting.is_alive():
                self._painting.join()
        finally:
            with self._lock:
                self._painter.leave(self._last_rows())

    def abandon(self) -> None:
        """Show the cursor again, below what is painted; takes no lock."""
        self._painter.abandon()

    def suspend(self, stop: Callable[[], None]) -> None:
        """Give the terminal away while `stop` lasts (Ctrl-Z), in a signal handler.

        A picture that is being painted is waited for; one that the very thread paints to which the
        signal came may be spoilt, no more.
        """
        locked = self._lock.acquire(timeout=_PATIENCE_S)
        try:
            self._painter.abandon()
            stop()
            self._painter.forget()
        finally:
            if locked:
                self._lock.release()

    def paint(self) -> None:
        """Draw what there is now."""
        with self._lock:
            size = self._painter.size()
            rows = self._rows(size.columns, max(1, size.lines - 1))
            self._painter.paint(rows, size)

    def _keep_painting(self) -> None:
        while not self._ended.wait(PAINT_S):
            try:
                self.paint()
            except OSError:
                return  # the terminal is gone

    def _take(self, event: Event) -> None:
        match event:
            case Planned(steps):
                self._planned.update(step.digest for step in steps)
            case StepStarted(number, name, digest):
                # A step that starts again, with a new number, keeps its line.
                step = _Step(plain_text(name), self._clock(), _Tail(self._log_lines))
                self._steps[number] = self._order[digest or str(number)] = step
            case StepOutput(number, _, data, _):
                self._steps[number].tail.feed(data)
            case StepMessage(number, text):
                self._steps[number].tail.feed(f"{text}\n".encode(errors="backslashreplace"))
            case StepTransfer(number, what):
                self._transfer(self._steps[number].transfers, what, event)
            case StepCached() | StepDone() | StepFailed() | StepCanceled():
                self._end(event)
            case BuildWarning():
                self._warnings.append(event)

    def _transfer(self, transfers: dict[str, _Transfer], what: str, event: StepTransfer) -> None:
        now = self._clock()
        known = transfers.setdefault(what, _Transfer(event, now))
        known.event = event
        if event.done:
            known.ended = now

    def _end(self, event: StepCached | StepDone | StepFailed | StepCanceled) -> None:
        step = self._steps[event.step]
        match event:
            case StepCached():
                step.end = "CACHED"
            case StepDone(_, seconds):
                step.end, step.seconds = "", seconds
            case StepFailed(_, _, seconds):
                step.end, step.seconds = "ERROR", seconds
            case StepCanceled():
                step.end, step.seconds = "CANCELED", self._clock() - step.began
        step.tail = _Tail(0)

    def _header(self, *, final: bool = False) -> Row:
        done = sum(1 for step in self._order.values() if step.end is not None)
        total = len(self._planned | self._order.keys())
        finished = " FINISHED" if final and done == total else ""
        seconds = self._clock() - self._began
        return Row(f"[+] Building {seconds:.1f}s ({done}/{total}){finished}")

    def _rows(self, width: int, height: int) -> list[Row]:
        """Return the picture: what runs first of all, then its output, then what is done."""
        now, left = self._clock(), height - 1
        parts: dict[int, list[Row]] = {}
        steps = list(enumerate(self._order.values()))
        running = [(place, step) for place, step in steps if step.end is None]
        for place, step in running:
            parts[place] = step.rows(now, width, self._colours)[:left]
            left -= len(parts[place])
        for place, step in running:
            rows = step.output(min(left, self._log_lines), self._colours) if left > 0 else []
            parts[place] += rows
            left -= len(rows)
        for place, step in reversed(steps):
            if step.end is not None and left > 0:
                parts[place] = step.rows(now, width, self._colours)[:left]
                left -= len(parts[place])
        return [self._header(), *(row for place in sorted(parts) for row in parts[place])]

    def _last_rows(self) -> list[Row]:
        now, width = self._clock(), self._painter.size().columns
        rows = [self._header(final=True)]
        for step in self._order.values():
            rows += step.rows(now, width, self._colours)
        if self._warnings:
            shown = map(plain_text, warnings_text(self._warnings).splitlines())
            rows += [Row(""), *(Row(line, self._colours.warning) for line in shown)]
        return rows


def log_lines_of(environment: Mapping[str, str]) -> int:
    """Return how many lines of output a running step shows: BUILDKIT_TTY_LOG_LINES or six."""
    text = environment.get("BUILDKIT_TTY_LOG_LINES", "")
    return int(text) if text.isdecimal() and int(text) > 0 else DEFAULT_LOG_LINES
