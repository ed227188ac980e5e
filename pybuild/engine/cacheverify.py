"""Reading all that the store holds, and dropping what is damaged, so that it is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from values.classes import dataclass

if TYPE_CHECKING:
    from store.check import Problem
    from store.root import Store


@dataclass(frozen=True, slots=True)
class Damage:
    """What was damaged, the cause, and what was done about it."""

    what: str
    cause: str
    done: str

    def __str__(self) -> str:
        return f"{self.what}: {self.cause}: {self.done}"


def verify(store: Store) -> list[Damage]:
    """Return the damage found; all that can be dropped was dropped.

    Builds may run meanwhile, but nothing is dropped from under them: raises InUse then.
    """
    from store.check import check
    from store.errors import InUse
    from store.repair import drop

    problems = [*check(store, deep=True), *_records(store)]
    if not problems:
        return []
    try:
        with store.exclusive_lease():
            return [Damage(p.what, p.cause, drop(store, *p.subject)) for p in problems]
    except InUse as error:
        raise InUse(f"{problems[0].what}: {problems[0].cause}: {error}", hint=error.hint) from error


def _records(store: Store) -> Iterator[Problem]:
    """Yield the build records whose key is not made of what they say."""
    from builder.cache import is_sound
    from store.cacheusage import unsound_records
    from store.check import Problem
    from store.errors import StoreError

    with suppress(StoreError):  # the whole database is among the problems then
        for key, title in unsound_records(store.records, is_sound):
            what = f"build record {key} of {title}"
            cause = "its key is not the digest of its ingredients"
            yield Problem(what, cause, "", ("record", key))
