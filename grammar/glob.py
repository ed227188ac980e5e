"""Wildcard patterns as Go's filepath.Match reads them, which COPY and ADD use.

`*` and `?` do not cross `/`, `[…]` is a class, a backslash makes the next character literal.
Refuses to look at a disk. Source: Go, path/filepath.Match.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from grammar.errors import PatternError, shown
from values.classes import dataclass

_WILDCARD = re.compile(r"(?:\\.|[^\\*?\[])*+[*?\[]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Piece:
    """One element of a pattern: `regex` matches it; `literal` is its text, None for a wildcard."""

    regex: str
    literal: str | None = None


STAR = Piece("[^/]*")


def match(pattern: str, name: str) -> bool:
    """Return whether the whole of `name` matches `pattern`. Raises PatternError."""
    return _compiled(pattern).fullmatch(name) is not None


def has_wildcard(pattern: str) -> bool:
    """Return whether `pattern` holds a `*`, `?` or `[` that no backslash makes literal."""
    return _WILDCARD.match(pattern) is not None


def pieces(pattern: str) -> Iterator[Piece]:
    """Yield the elements of `pattern` in order. Raises PatternError."""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            yield STAR
        elif char == "?":
            yield Piece("[^/]")
        elif char == "[":
            regex, at = _class(pattern, at + 1)
            yield Piece(regex)
            continue
        else:
            literal, at = _character(pattern, at)
            yield Piece(re.escape(literal), literal)
            continue
        at += 1


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(piece.regex for piece in pieces(pattern)), re.DOTALL)


def _character(pattern: str, at: int) -> tuple[str, int]:
    """Return the character at `at`, which a backslash may precede, and where the next begins."""
    if pattern[at] != "\\":
        return pattern[at], at + 1
    if at + 1 == len(pattern):
        raise _bad(pattern, "a backslash ends it")
    return pattern[at + 1], at + 2


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Return the regular expression of the class whose inside begins at `at`, and its end."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[str] = []
    empty = True
    while pattern[at : at + 1] != "]" or empty:
        low, at = _member(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _member(pattern, at + 1)
        empty = False
        if low <= high:  # a range that runs backwards matches nothing
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    if ranges:
        return f"[{'^' if negated else ''}{''.join(ranges)}]", at + 1
    return ("." if negated else "(?!)"), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if at >= len(pattern):
        raise _bad(pattern, "[ is not closed")
    if pattern[at] in "-]":
        raise _bad(pattern, f"{pattern[at]} in […] needs a backslash")
    return _character(pattern, at)


def _bad(pattern: str, cause: str) -> PatternError:
    return PatternError(f"bad pattern {shown(pattern)}: {cause}")
