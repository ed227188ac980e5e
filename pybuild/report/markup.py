"""Text as HTML: escaped, with what a terminal would obey taken out."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import BinaryIO

# Colours and cursor movements (CSI), titles and links (OSC), and the short ones.
_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)} | {127: "␡"}
# What turns the direction of text around could show something else than is there.
_CONTROLS |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "�")
_PIECE_BYTES = 1 << 16


def escaped(text: object) -> str:
    """Return text for an element or an attribute."""
    return html.escape(str(text).translate(_CONTROLS), quote=True)


def log_html(file: BinaryIO) -> Iterator[str]:
    """Yield a log as escaped text, a line or a piece of a very long one at a time."""
    while piece := file.readline(_PIECE_BYTES):
        text = piece.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
        yield escaped(_SEQUENCES.sub("", text))
