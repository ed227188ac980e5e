"""The progress of a pull or push, in docker's words.

On a terminal every layer has a line with its bytes and speed, drawn anew; elsewhere a line is
written when a layer begins and when it ends. Owns the text only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TextIO

from pybuild.cli.celltext import plain_text
from pybuild.cli.painter import Painter, Row
from pybuild.cli.table import human_size, short_id
from registry_client.events import BlobDone, BlobFound, BlobMoved, Event, Outcome, Retrying
from values.classes import dataclass

_REDRAW_S = 0.1
_BAR = 30

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
        self, painter: Painter, *, pushes: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._painter = painter
        self._pushes = pushes
        self._clock = clock
        self._layers: dict[str, _Layer] = {}
        self._note = ""
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
        if now - self._last >= _REDRAW_S:
            self._last = now
            size = self._painter.size()
            self._painter.paint(self._rows(size.lines - 1), size)

    def finish(self) -> None:
        """Leave the last state of everything on the screen, and the cursor below."""
        if self._layers or self._note:
            self._painter.leave(self._rows())
            self._layers, self._note = {}, ""

    def _rows(self, room: int | None = None) -> list[Row]:
        """Return all lines, or as many as there is room for: the layers on their way first."""
        note = [Row(plain_text(self._note))] if self._note else []
        layers = [Row(self._line(*item)) for item in self._layers.items()]
        if room is not None and len(layers) + len(note) > room:
            moving = [Row(self._line(*item)) for item in self._layers.items() if not item[1].done]
            done = f"{len(self._layers) - len(moving)} of {len(self._layers)} layers done"
            layers = [*moving[: max(0, room - len(note) - 1)], Row(done)]
        return [*layers, *note]

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
        fd = out.fileno()
        painter = Painter(out.buffer, lambda: os.get_terminal_size(fd))
        return LiveTransfer(painter, pushes=pushes)
    return PlainTransfer(out, pushes=pushes)
