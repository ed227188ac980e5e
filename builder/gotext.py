"""Values as Go prints them: history entries hold what BuildKit's format strings made.

Pure. Source: Go, strconv.Quote and time.Duration.String.
"""

from collections.abc import Iterable

_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
}
_BYTES = range(0xDC80, 0xDD00)  # how Python holds bytes that are no UTF-8


def quoted(text: str) -> str:
    """Return a string as `%q` prints it."""
    return f'"{"".join(_escaped(char) for char in text)}"'


def quoted_list(items: Iterable[str]) -> str:
    """Return a slice of strings as `%q` prints it: `["a" "b"]`."""
    return f"[{' '.join(map(quoted, items))}]"


def _escaped(char: str) -> str:
    code = ord(char)
    if char == chr(34):
        return f"\\{char}"
    if char in _ESCAPES:
        return _ESCAPES[char]
    if code in _BYTES:
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable():
        return char
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def duration(nanoseconds: int) -> str:
    """Return a duration as Go prints it: `1m30s`, `1.5s`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1000:
            return f"{_decimal(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    seconds = f"{_decimal(rest, 1_000_000_000)}s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def _decimal(number: int, size: int) -> str:
    whole, part = divmod(number, size)
    digits = f"{part:0{len(str(size)) - 1}d}".rstrip("0") if size > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)
