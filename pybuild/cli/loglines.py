"""From the bytes that a step's process writes to whole lines. Loses none of them."""

from __future__ import annotations

from values.classes import dataclass, field


@dataclass(slots=True)
class _Begun:
    """What one descriptor has written since its last line end; `since`: when it began."""

    since: float = 0.0
    parts: list[bytes] = field(default_factory=list)
    # The bytes so far ended with a carriage return; a newline that comes next belongs to it.
    returned: bool = False
    returned_empty: bool = False


class LogLines:
    """Cuts the output of one step into lines, for stdout and stderr each.

    A carriage return ends a line too: every state of a progress bar is a line of its own, so that
    none overwrites what stands before it and all are there in the end.
    """

    def __init__(self) -> None:
        self._begun: dict[int, _Begun] = {}

    def feed(self, fd: int, data: bytes, seconds: float) -> list[tuple[float, bytes]]:
        """Return the lines that `data` ends: when each began, and its bytes without the end."""
        begun = self._begun.setdefault(fd, _Begun())
        lines: list[tuple[float, bytes]] = []
        if begun.returned and data.startswith(b"\n"):
            if begun.returned_empty:
                lines.append((seconds, b""))
            data = data[1:]
        for piece in data.splitlines(keepends=True):
            if not begun.parts:
                begun.since = seconds
            if not piece.endswith((b"\r", b"\n")):
                begun.parts.append(piece)
                break
            line = b"".join(begun.parts) + piece.rstrip(b"\r\n")
            begun.parts.clear()
            # A bar begins by returning to the line's start: there is nothing before that.
            begun.returned_empty = not line and piece == b"\r"
            if not begun.returned_empty:
                lines.append((begun.since, line))
        begun.returned = data.endswith(b"\r")
        return lines

    def rest(self) -> list[tuple[float, bytes]]:
        """Return the lines that are begun and not ended."""
        return [(b.since, b"".join(b.parts)) for b in self._begun.values() if b.parts]
