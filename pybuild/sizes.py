"""Sizes and durations as people write them in options and configuration."""

from __future__ import annotations

import re

_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_SIZE = r"(?i)([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?([kmgtp]?)(i?)(b?)"
_DURATION = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|us|µs|ns|d|h|m|s)"
_UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def human_size(size_bytes: int) -> str:
    """Return a size as docker prints it: decimal units, three digits (`1.23MB`)."""
    size = float(size_bytes)
    for unit in _SIZE_UNITS:
        shown = f"{size:.3g}"
        if float(shown) < 1000:  # 999.9 is shown as 1 of the next unit
            return shown + unit
        size /= 1000
    return f"{size * 1000:.0f}{_SIZE_UNITS[-1]}"


def parse_size(text: str) -> int:
    """Return the bytes that `text` says: `10GB` (decimal, as docker's), `10GiB`, `512m`, `0`.

    Raises ValueError. Source: docker's go-units, FromHumanSize.
    """
    found = re.fullmatch(_SIZE, text.strip())
    if found is None:
        raise ValueError(f'"{text}" is no size, as 512MB, 10GB or 10GiB are')
    number, prefix, binary, _ = found.groups()
    power = " kmgtp".index(prefix.lower() or " ")
    return int(float(number) * (1024 if binary else 1000) ** power)


def parse_duration(text: str) -> float:
    """Return the seconds that `text` says: Go's `1h30m`, or days, `60d`. Raises ValueError."""
    parts = re.findall(_DURATION, text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        if text == "0":
            return 0.0
        raise ValueError(f'"{text}" is no duration, as 48h, 90m or 60d are')
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def human_seconds(seconds: float) -> str:
    """Return a duration with its unit, about three digits: `45ms`, `3.21s`, `2m 5s`, `1h 2m`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.2f}s" if seconds < 10 else f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest}s"
    return f"{minutes // 60}h {minutes % 60}m"
