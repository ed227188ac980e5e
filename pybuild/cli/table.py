"""Rows for people: aligned columns, and sizes, times and digests in docker's words.

Pure: values in, text out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pybuild.sizes import human_size
from pybuild.times import parse_time

__all__ = [
    "ago",
    "human_duration",
    "human_size",
    "local_time",
    "parse_time",
    "render",
    "short_id",
    "shortened",
]

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_GAP = "   "


def render(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return `rows` under `header` in aligned columns, a line each."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def human_duration(seconds: float) -> str:
    """Return a duration as docker prints it: `3 minutes`, `About an hour`, `2 weeks`."""
    whole = int(seconds)
    minutes, hours = whole // _MINUTE_S, (whole + _HOUR_S // 2) // _HOUR_S
    days = hours // 24
    steps = (
        (whole < 1, "Less than a second"),
        (whole == 1, "1 second"),
        (whole < _MINUTE_S, f"{whole} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (days < 14, f"{days} days"),
        (days < 60, f"{days // 7} weeks"),
        (days < 730, f"{days // 30} months"),
    )
    return next((text for holds, text in steps if holds), f"{days // 365} years")


def ago(when: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago `when` was; `N/A` where it is not known."""
    if when is None:
        return "N/A"
    passed = ((now or datetime.now(UTC)) - when).total_seconds()
    return human_duration(max(passed, 0)) + " ago"


def local_time(when: datetime | None) -> str:
    """Return a time as Go prints it, in this machine's zone; `N/A` where it is not known."""
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S %z %Z}" if when else "N/A"


def short_id(identifier: str) -> str:
    """Return the twelve digits of a digest or container ID that people use."""
    return identifier.rpartition(":")[2][:12]


def shortened(text: str, width: int) -> str:
    """Return `text` in at most `width` characters, an ellipsis standing for the rest."""
    return text if len(text) <= width else text[: width - 1] + "…"
