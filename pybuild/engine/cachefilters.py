"""`--filter` of the cache's verbs: which entries are meant, by buildx's rules.

`key=value`, `key!=value`, `key~=expression`, or a key alone for what is true or false; all of them
have to hold. Pure but for the clock.
Source: buildx `commands/prune.go`, BuildKit `cache/manager.go`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pybuild.engine.filters import moment
from pybuild.errors import PybuildError, UsageError
from values.classes import dataclass

if TYPE_CHECKING:
    from pybuild.engine.cacheentries import CacheEntry

_TEXTS: dict[str, Callable[[CacheEntry], str]] = {
    "id": lambda entry: entry.id,
    "parents": lambda entry: ";".join(entry.parents),
    "description": lambda entry: entry.description,
    "type": lambda entry: entry.type,
}
_FACTS: dict[str, Callable[[CacheEntry], bool]] = {
    "inuse": lambda entry: entry.is_in_use,
    "mutable": lambda entry: entry.is_mutable,
    "immutable": lambda entry: not entry.is_mutable,
    "shared": lambda entry: entry.is_shared,
    "private": lambda entry: not entry.is_shared,
}
KEYS = ("until", *_TEXTS, *_FACTS)

_WORD = re.compile(r"([^=!~]+?)\s*(?:(!=|~=|==?)(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CacheFilters:
    """What `--filter` asks for. before_s: entries not used since (s since 1970), None for any."""

    conditions: tuple[Callable[[CacheEntry], bool], ...] = ()
    before_s: float | None = None

    def fit(self, entry: CacheEntry) -> bool:
        """Tell whether an entry is meant."""
        if self.before_s is not None and entry.used_s > self.before_s:
            return False
        return all(holds(entry) for holds in self.conditions)


def parse_filters(words: Sequence[str]) -> CacheFilters:
    """Return what the words of `--filter` ask for. Raises UsageError, PybuildError."""
    seen: set[str] = set()
    conditions: list[Callable[[CacheEntry], bool]] = []
    before_s: float | None = None
    for word in words:
        found = _WORD.fullmatch(word.strip())
        if found is None:
            raise UsageError(f"bad format of filter {word!r} (expected name=value)")
        key, operator, value = found[1].lower(), found[2], (found[3] or "").strip()
        key = "until" if key == "unused-for" else key
        if key in seen:
            raise PybuildError(f"more than one {key} filter specified")
        seen.add(key)
        if key == "until":
            before_s = moment(value)
        else:
            conditions.append(_condition(key, operator, value))
    return CacheFilters(tuple(conditions), before_s)


def _condition(key: str, operator: str | None, value: str) -> Callable[[CacheEntry], bool]:
    if key in _FACTS:
        fact = _FACTS[key]
        wanted = _truth(key, value) != (operator == "!=") if operator else True
        return lambda entry: fact(entry) is wanted
    if key not in _TEXTS:
        raise PybuildError(f"invalid filter {key!r}", hint=f"there is: {', '.join(KEYS)}")
    text = _TEXTS[key]
    if operator is None:
        return lambda entry: bool(text(entry))
    if operator == "!=":
        return lambda entry: text(entry) != value
    if operator == "~=" or key == "id":
        pattern = _pattern(key, value)
        return lambda entry: pattern.search(text(entry)) is not None
    return lambda entry: text(entry) == value


def _pattern(key: str, value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except re.error as error:
        raise PybuildError(f"invalid filter '{key}~={value}': {error}") from error


def _truth(key: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise PybuildError(f"invalid filter '{key}={value}'", hint="write true or false")
    return value.lower() in ("true", "1")
