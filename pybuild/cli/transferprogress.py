"""The progress of a pull or push, in docker's words.

On a terminal every layer has a line with its bytes and speed, drawn anew; elsewhere a line is
written when a layer begins and when it ends. Owns the text only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TextIO

from pybuild.cli.table import human_size, short_id
from registry_client.events import BlobDone, BlobFound, BlobMoved, Event, Outcome, Retrying
from values.classes import dataclass

_REDRAW_S = 0.1
_BAR = 30
_CLEAR = "\x1b[2K"

_PULL_WORDS = {Outcome.PULLED: "Pull complete", Outcome.EXISTS: "Already exists"}
_PUSH_WORDS = {Outcome.PUSHED: "Pushed", Outcome.EXISTS: "Layer already exists"}


@dataclass(slots=True)
class _Layer:
    """A layer that is part of the transfer. done: what became of it."""

    size_bytes: int
    moved_bytes: int = 0
    began: float = 0.0
    ended: float = 0.0
    done: str = ""


class PlainTransfer:
    """Writes a line when a layer is found, and when it is where it had to be."""

    def __init__(self, out: TextIO, *, pushes: bool) -> None:
        self._out = out
        self._pushes = pushes

    def __call__(self, event: Event) -> None:
        """Write what `event` says."""
        match event:
            case BlobFound(digest, _):
                words = "Preparing" if self._pushes else "Pulling fs layer"
                self._line(f"{short_id(digest)}: {words}")
            case BlobDone(digest, _, _):
                self._line(f"{short_id(digest)}: {words_for(event, pushes=self._pushes)}")
            case Retrying(cause):
                self._line(f"trying again: {cause}")

    def finish(self) -> None:
        """Do nothing: every line is out."""

    def _line(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()


class LiveTransfer:
    """Draws a line a layer on a terminal, ten times a second at most."""

    def __init__(
        self,
        out: TextIO,
        *,
        pushes: bool,
        clock: Callable[[], float] = time.monotonic,
        size: Callable[[], os.terminal_size] = lambda: os.get_terminal_size(2),
    ) -> None:
        self._out = out
        self._pushes = pushes
        self._clock = clock
        self._size = size
        self._layers: dict[str, _Layer] = {}
        self._note = ""
        self._drawn = 0
        self._last = float("-inf")

    def __call__(self, event: Event) -> None:
        """Take note of `event`, and draw when it is time."""
        now = self._clock()
        match event:
            case BlobFound(digest, size_bytes):
                self._layers[digest] = _Layer(size_bytes)
            case BlobMoved(digest, done_bytes, _):
                layer = self._layers[digest]
                layer.began = layer.began or now
                layer.moved_bytes, layer.ended = done_bytes, now
                self._note = ""
            case BlobDone(digest, _, _):
                self._layers[digest].done = words_for(event, pushes=self._pushes)
            case Retrying(cause):
                self._note = f"trying again: {cause}"
        if now - self._last >= _REDRAW_S or isinstance(event, BlobDone):
            self._last = now
            self._draw()

    def finish(self) -> None:
        """Leave the last state of everything on the screen."""
        self._draw()
        self._drawn = 0

    def _draw(self) -> None:
        columns, rows = self._terminal()
        lines = [self._line(digest, layer) for digest, layer in self._layers.items()]
        if len(lines) > rows - 2:
            # What does not fit on the screen cannot be drawn anew: the finished ones go first.
            lines = [
                self._line(digest, layer)
                for digest, layer in self._layers.items()
                if not layer.done
            ][: rows - 3]
            done = sum(1 for layer in self._layers.values() if layer.done)
            lines.append(f"{done} of {len(self._layers)} layers done")
        if self._note:
            lines.append(self._note)
        blank = max(0, self._drawn - len(lines))
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        text = "".join(f"\r{_CLEAR}{line[: columns - 1]}\n" for line in [*lines, *[""] * blank])
        self._out.write(up + text)
        self._out.flush()
        self._drawn = len(lines) + blank

    def _terminal(self) -> tuple[int, int]:
        try:
            size = self._size()
        except OSError:
            return 80, 24
        # A terminal that does not know its size says 0.
        return max(size.columns or 80, 20), max(size.lines or 24, 6)

    def _line(self, digest: str, layer: _Layer) -> str:
        name = short_id(digest)
        if layer.done:
            return f"{name}: {layer.done}"
        if not layer.moved_bytes:
            return f"{name}: Waiting"
        if layer.moved_bytes >= layer.size_bytes:
            return f"{name}: {'Waiting for the registry' if self._pushes else 'Extracting'}"
        share = layer.moved_bytes / layer.size_bytes
        filled = round(share * _BAR)
        bar = ("=" * max(0, filled - 1) + ">" * bool(filled)).ljust(_BAR)
        words = "Pushing" if self._pushes else "Downloading"
        moved = f"{human_size(layer.moved_bytes)}/{human_size(layer.size_bytes)}"
        return f"{name}: {words} [{bar}] {moved} {self._speed(layer)}".rstrip()

    def _speed(self, layer: _Layer) -> str:
        seconds = layer.ended - layer.began
        return f"{human_size(int(layer.moved_bytes / seconds))}/s" if seconds > 0.2 else ""


def words_for(event: BlobDone, *, pushes: bool) -> str:
    """Return docker's words for how a layer got to its place."""
    if event.outcome is Outcome.MOUNTED:
        return f"Mounted from {event.source}"
    return (_PUSH_WORDS if pushes else _PULL_WORDS)[event.outcome]


def transfer_progress(out: TextIO, *, pushes: bool) -> PlainTransfer | LiveTransfer:
    """Return what shows a transfer on `out`, a terminal or not."""
    if out.isatty() and os.environ.get("TERM") != "dumb":
        return LiveTransfer(out, pushes=pushes, size=lambda: os.get_terminal_size(out.fileno()))
    return PlainTransfer(out, pushes=pushes)
