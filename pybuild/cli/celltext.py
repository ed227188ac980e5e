"""Text as a terminal shows it: in cells, without what moves the cursor."""

from __future__ import annotations

import re
import unicodedata

# CSI and OSC sequences, and the other escapes of two characters or three.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|\Z)|\x1b[ -/]*[0-~]|\x1b"
)
_TAB = 8


def plain_text(text: str) -> str:
    """Return `text` as one line without control characters; tabs become blanks."""
    if text.isprintable():
        return text
    text = _ESCAPES.sub("", text)
    line = text.rstrip("\r\n").rpartition("\r")[2].replace("\n", " ").expandtabs(_TAB)
    return "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp"))


def width_of(character: str) -> int:
    """Return how many cells one character takes: 0, 1 or 2."""
    if character.isascii():
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cells(text: str) -> int:
    """Return how many cells a line takes."""
    return len(text) if text.isascii() else sum(map(width_of, text))


def clipped(text: str, width: int) -> str:
    """Return the start of `text` that fits into `width` cells."""
    if text.isascii():
        return text[:width]
    used = 0
    for number, character in enumerate(text):
        used += width_of(character)
        if used > width:
            return text[:number]
    return text


def aligned(left: str, right: str, width: int) -> str:
    """Return a line of `width` cells that begins with `left` and ends with `right`.

    `left` is cut where there is no room for both; where there is hardly any, `right` is left out.
    """
    room = width - cells(right) - 1
    if room < _LEAST:
        return clipped(left, width)
    left = clipped(left, room)
    return f"{left}{' ' * (room - cells(left))} {right}"


# So many cells a line's text must have beside its time.
_LEAST = 16
