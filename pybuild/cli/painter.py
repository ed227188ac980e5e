"""A block of lines at the end of a terminal, drawn anew in place.

Between two paintings the cursor rests, hidden, at the *start* of the block. So whatever a terminal
does to lines when its window changes (some wrap them anew, some cut them), all of the block is
below the cursor: clearing from there to the end of the screen leaves nothing behind.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from typing import BinaryIO

from pybuild.cli.celltext import cells, clipped
from values.classes import dataclass

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
# What is wider than we believe is cut by the terminal, it never becomes a second line.
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[K", "\x1b[J"
# tmux moves a whole screen into its history when it is cleared from its very first cell.
_CLEAR_BLOCK = f"\r {_CLEAR_BELOW}\r"
_RESET = "\x1b[0m"
_DEFAULT = os.terminal_size((80, 24))


@dataclass(frozen=True, slots=True)
class Row:
    """A line of text (printable, without escapes) and its colour, an SGR sequence or nothing."""

    text: str
    style: str = ""

    def shown(self, width: int) -> str:
        """Return what is written for it in a window of `width` cells, the rest of them cleared."""
        text = clipped(self.text, width)
        # After a full line the cursor stays on its last cell, and would clear that.
        clear = _CLEAR_LINE if cells(text) < width else ""
        return f"{self.style}{text}{_RESET}{clear}" if self.style and text else text + clear


class Painter:
    """Draws rows on the terminal `out`; only what changed is written."""

    def __init__(self, out: BinaryIO, size: Callable[[], os.terminal_size]) -> None:
        self._out = out
        self._ask_size = size
        self._painted_for = _DEFAULT
        self._rows: list[str] = []
        self._hidden = False

    def size(self) -> os.terminal_size:
        """Return the window's size; 80 by 24 where the terminal does not know."""
        try:
            size = self._ask_size()
        except OSError:
            return _DEFAULT
        return os.terminal_size((size.columns or 80, size.lines or 24))

    def paint(self, rows: Sequence[Row], size: os.terminal_size) -> None:
        """Show `rows`, fewer than the window of this `size` has, in the place of the former."""
        new = [row.shown(size.columns) for row in rows]
        text = []
        if self._rows and size != self._painted_for:
            text.append(_CLEAR_BLOCK)
            self._rows = []
        self._painted_for = size
        text += self._difference(new)
        # A signal that comes while it is written has to know what will be there.
        self._rows = new
        if text:
            # The first painting hides the cursor; `leave` shows it again.
            hide = "" if self._hidden else _HIDE
            self._hidden = True
            self._write(hide + _NO_WRAP + "".join(text) + _WRAP)

    def leave(self, rows: Sequence[Row]) -> None:
        """Show `rows`, any number, for good; the cursor is below them then."""
        width = self.size().columns
        lines = "".join(f"{row.shown(width)}\r\n" for row in rows)
        clear = _CLEAR_BLOCK if self._rows else ""
        self._rows = []
        self._write(f"{clear}{_NO_WRAP}{lines}{_WRAP}{_SHOW if self._hidden else ''}")
        self._hidden = False

    def abandon(self) -> None:
        """Leave what is painted, and show the cursor below it. Safe in a signal handler."""
        if self._hidden:
            text = f"{_WRAP}{_down(len(self._rows) - 1)}\r\n{_SHOW}"
            write_if_possible(self._out.fileno(), text.encode())

    def forget(self) -> None:
        """Paint everything anew the next time, from where the cursor is then."""
        self._rows = []
        self._hidden = False

    def _difference(self, new: list[str]) -> list[str]:
        """Return what turns the rows on the screen into `new`, from the start of the block."""
        text: list[str] = []
        at, there = 0, max(1, len(self._rows))
        for number, row in enumerate(new):
            if number < len(self._rows) and self._rows[number] == row:
                continue
            if number >= there:  # only a line feed makes new lines, and scrolls where it must
                text.append(_down(there - 1 - at) + "\r\n" * (number - there + 1))
                there = number + 1
            else:
                text.append(_down(number - at))
            text.append(f"\r{row}")
            at = number
        if len(new) < len(self._rows):
            text.append(f"{_down(len(new) - at)}\r{_CLEAR_BELOW}")
            at = len(new)
        if text:
            text.append(f"\r\x1b[{at}A" if at else "\r")
        return text

    def _write(self, text: str) -> None:
        self._out.write(text.encode(errors="replace"))
        self._out.flush()


def write_if_possible(fd: int, data: bytes) -> None:
    """Write to a terminal or pipe unless that would have to wait."""
    if select.select([], [fd], [], 0)[1]:
        os.write(fd, data)


def _down(count: int) -> str:
    return f"\x1b[{count}B" if count else ""
