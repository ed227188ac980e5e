"""The colours of progress on a terminal, from NO_COLOR and BUILDKIT_COLORS."""

from __future__ import annotations

from collections.abc import Mapping

from values.classes import dataclass, replace

_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_SGR = {"default": "\x1b[39m"}
_SGR |= {name: f"\x1b[{30 + number}m" for number, name in enumerate(_NAMES)}
_SGR |= {f"light-{name}": f"\x1b[{90 + number}m" for number, name in enumerate(_NAMES)}


@dataclass(frozen=True, slots=True)
class Colours:
    """SGR sequences, empty for none: of what is done, of warnings and so on, of steps' output."""

    run: str = _SGR["blue"]
    warning: str = _SGR["yellow"]
    error: str = _SGR["red"]
    cancel: str = _SGR["yellow"]
    faint: str = "\x1b[2m"


def colours_of(environment: Mapping[str, str]) -> Colours:
    """Return the colours that the environment asks for.

    BUILDKIT_COLORS is `run=green:warning=yellow:error=red:cancel=255,165,0`; what makes no sense
    in it is passed over, as BuildKit does. NO_COLOR, not empty, takes all of them away.
    """
    if environment.get("NO_COLOR"):
        return Colours("", "", "", "", "")
    colours = Colours()
    for field in environment.get("BUILDKIT_COLORS", "").split(":"):
        what, _, value = field.partition("=")
        sgr = _sgr(value.strip().lower())
        if sgr and what.strip().lower() in ("run", "warning", "error", "cancel"):
            colours = replace(colours, **{what.strip().lower(): sgr})
    return colours


def _sgr(value: str) -> str:
    parts = value.split(",")
    if len(parts) == 3 and all(part.isdecimal() and int(part) < 256 for part in parts):
        return f"\x1b[38;2;{';'.join(str(int(part)) for part in parts)}m"
    return _SGR.get(value, "")
