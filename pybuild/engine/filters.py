"""`--filter`: which images and containers are meant.

Pure but for the clock. Source: moby `api/types/filters`, `daemon/images/images.go`; docker's
reference of `images` and `image prune`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from pybuild.errors import PybuildError, UsageError
from pybuild.sizes import parse_duration
from values.classes import dataclass

_TRUE, _FALSE = frozenset({"1", "t", "true"}), frozenset({"0", "f", "false"})
_UNIX_TIME = re.compile(r"[0-9]+(?:\.[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class Filters:
    """What was given, `key=value` each, in order: values of one key are together."""

    given: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, words: Sequence[str], known: Sequence[str]) -> Filters:
        """Return the filters that `words` say; `known` are the keys that there are.

        Raises UsageError for a word without `=`, PybuildError for another key.
        """
        given: dict[str, tuple[str, ...]] = {}
        for word in words:
            key, equals, value = word.partition("=")
            key = key.strip().lower()
            if not equals:
                raise UsageError(f"bad format of filter {word!r} (expected name=value)")
            if key == "label" and key in known and value.startswith("!"):
                key, value = "label!", value[1:]
            if key not in known:
                raise PybuildError(f"invalid filter {key!r}", hint=f"there is: {', '.join(known)}")
            given[key] = (*given.get(key, ()), value.strip())
        return cls(given)

    def values(self, key: str) -> tuple[str, ...]:
        """Return the values of `key`, none where it was not given."""
        return self.given.get(key, ())

    def boolean(self, key: str) -> bool | None:
        """Return the value of a key that is true or false, None where it was not given."""
        values = self.values(key)
        if not values:
            return None
        if values[-1].lower() not in _TRUE | _FALSE:
            raise PybuildError(f"invalid filter '{key}={values[-1]}'", hint="write true or false")
        return values[-1].lower() in _TRUE

    def before_s(self) -> float | None:
        """Return the moment that `until` names, in seconds since 1970."""
        values = self.values("until")
        if len(values) > 1:
            raise PybuildError("more than one until filter specified")
        return moment(values[0]) if values else None

    def fit_labels(self, labels: Mapping[str, str]) -> bool:
        """Tell whether `labels` have all that `label` asks for and nothing that `label!` does."""
        wanted = all(_has_label(labels, word) for word in self.values("label"))
        return wanted and not any(_has_label(labels, word) for word in self.values("label!"))


def moment(text: str, now_s: float | None = None, key: str = "until") -> float:
    """Return the time that `text`, the value of the filter `key`, names, in seconds since 1970.

    A Unix time, a date with or without time (local without a zone), or a duration before now.
    Raises PybuildError.
    """
    if _UNIX_TIME.match(text):
        return float(text)
    with suppress(ValueError):
        return (time.time() if now_s is None else now_s) - parse_duration(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise PybuildError(
            f"invalid filter '{key}={text}'",
            hint="write a duration (24h, 10m), a date (2024-01-31T12:00:00Z) or a Unix time",
        ) from error


def _has_label(labels: Mapping[str, str], word: str) -> bool:
    key, equals, value = word.partition("=")
    return key in labels and (not equals or labels[key] == value)
