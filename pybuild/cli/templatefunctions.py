"""The functions of `--format` templates, and Go's way of printing values.

Source: Go text/template "Functions" and fmt; docker cli `templates/templates.go`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard
from urllib.parse import quote_plus

from pybuild.errors import UsageError

_VERB = re.compile(r"%([-+# 0]*)(\*|[0-9]+)?(?:\.([0-9]+))?([a-zA-Z%])")


class Nothing(tuple[object, ...]):
    """A list or a map of Go that is nil: it is empty, and JSON says null."""

    def __new__(cls, shown_as: str) -> Nothing:
        """Return the value that prints as `shown_as`, `[]` or `map[]`."""
        nothing = super().__new__(cls, ())
        nothing.shown_as = shown_as
        return nothing

    shown_as: str


NIL_LIST, NIL_MAP = Nothing("[]"), Nothing("map[]")


class Struct(dict[str, object]):
    """A JSON object whose further fields are known: they have Go's zero values when left out.

    zeros: their values. free: any key may be asked for, as of a map of labels.
    """

    def __init__(
        self,
        fields: Mapping[str, object],
        zeros: Mapping[str, object] | None = None,
        *,
        free: bool = False,
    ) -> None:
        super().__init__(fields)
        self._zeros = zeros or {}
        self._free = free

    def field(self, name: str, token: str, path: str) -> object:
        """Return a field. Raises UsageError for one that there is not."""
        if name in self:
            return self[name]
        if name in self._zeros:
            return self._zeros[name]
        if self._free:
            return ""
        raise UsageError(f"format: {path}: there is no field {name}")


def to_json(value: object) -> str:
    """Return `value` as JSON on one line, as Go's encoder writes it."""
    if isinstance(value, Nothing):
        return "null"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def shown(value: object) -> str:
    """Return a value as Go's fmt prints it."""
    match value:
        case Nothing():
            return value.shown_as
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return "map[" + " ".join(f"{k}:{shown(value[k])}" for k in sorted(value)) + "]"
        case list() | tuple():
            return "[" + " ".join(map(shown, value)) + "]"
        case _:
            return str(value)


def is_true(value: object) -> bool:
    """Tell whether Go takes a value for true: anything but zero and empty."""
    return bool(value)


def text_of(word: str) -> object:
    """Return what a quoted word of a template means: text, or a character's number."""
    if word.startswith("`"):
        return word[1:-1]
    if word.startswith("'"):
        return ord(json.loads(f'"{word[1:-1]}"'))
    try:
        return json.loads(word)
    except ValueError as error:
        raise UsageError(f"format: {word} is no string: {error}") from error


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(str(key), "")
        elif isinstance(value, Nothing) and isinstance(key, str):
            value = ""
        elif isinstance(value, list | tuple | str) and isinstance(key, int) and key >= 0:
            value = value[key]
        else:
            raise TypeError(f"cannot index with {key!r}")
    return value


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, str | list | tuple):
        raise TypeError(f"cannot slice {shown(value)}")
    numbers = [b for b in bounds if isinstance(b, int)]
    if len(numbers) != len(bounds) or len(bounds) > 2:
        raise TypeError("slice takes numbers")
    start, end = (*numbers, *(0, len(value))[len(numbers) :])
    if not 0 <= start <= end <= len(value):
        raise IndexError(f"slice bounds {start}:{end} are out of range")
    return value[start:end]


def _join(items: object, separator: str) -> str:
    return separator.join(map(shown, items)) if _is_list(items) else shown(items)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def _len(value: object) -> int:
    if isinstance(value, Mapping | list | tuple):
        return len(value)
    if isinstance(value, str):
        return len(value.encode())
    raise TypeError(f"len of {shown(value)}")


def _and(first: object, *rest: object) -> object:
    for value in rest:
        if not is_true(first):
            break
        first = value
    return first


def _or(first: object, *rest: object) -> object:
    for value in rest:
        if is_true(first):
            break
        first = value
    return first


def _ordered(compare: Callable[[int], bool]) -> Callable[[object, object], bool]:
    def function(first: object, second: object) -> bool:
        if isinstance(first, int) and isinstance(second, int):
            return compare((first > second) - (first < second))
        if isinstance(first, str) and isinstance(second, str):
            return compare((first > second) - (first < second))
        raise TypeError("incompatible types for comparison")

    return function


def _printf(form: str, *values: object) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        text = _formatted(verb, precision, rest.pop(0))
        size = int(width or 0)
        if "-" in flags:
            return text.ljust(size)
        return text.rjust(size, "0" if "0" in flags and verb in "dxXf" else " ")

    return _VERB.sub(one, form)


def _formatted(verb: str, precision: str | None, value: object) -> str:
    if verb == "q":
        return json.dumps(shown(value), ensure_ascii=False)
    if verb in "xX" and isinstance(value, str):
        text = value.encode().hex()
        return text.upper() if verb == "X" else text
    if verb in "dxXobf" and isinstance(value, int | float):
        return format(value, (f".{precision or 6}f") if verb == "f" else verb)
    if verb in "svt":
        text = shown(value)
        return text[: int(precision)] if precision is not None and verb == "s" else text
    return f"%!{verb}({shown(value)})"


def _truncate(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length]


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _print(*values: object) -> str:
    """As Go's Sprint: a blank between two values when neither is text."""
    out = ""
    for at, value in enumerate(values):
        blank = at and not isinstance(value, str) and not isinstance(values[at - 1], str)
        out += (" " if blank else "") + shown(value)
    return out


FUNCTIONS: dict[str, Callable[..., object]] = {
    "and": _and,
    "eq": lambda first, *others: any(first == other for other in others),
    "ge": _ordered(lambda order: order >= 0),
    "gt": _ordered(lambda order: order > 0),
    "html": lambda *values: html.escape(_print(*values)),
    "index": _index,
    "join": _join,
    "json": to_json,
    "le": _ordered(lambda order: order <= 0),
    "len": _len,
    "lower": lambda text: str(text).lower(),
    "lt": _ordered(lambda order: order < 0),
    "ne": lambda first, second: first != second,
    "not": lambda value: not is_true(value),
    "or": _or,
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(map(shown, values)) + "\n",
    "slice": _slice,
    "split": lambda text, separator: str(text).split(separator),
    "title": lambda text: str(text).title(),
    "truncate": _truncate,
    "upper": lambda text: str(text).upper(),
    "urlquery": lambda *values: quote_plus(_print(*values)),
}
