"""Garbage collection after builds, by BuildKit's default policies.

Owns when it is due and which policies there are; what goes is `cacheprune`'s. It never waits: while
another build runs only what nobody can be using goes, and the next one does the rest.
Source: BuildKit `cmd/buildkitd/config/gcpolicy.go`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pybuild.configuration import settings
from pybuild.engine.cacheentries import GIT, HTTP, KEPT, LOCAL, MOUNT
from pybuild.engine.core import disk_of
from pybuild.errors import PybuildError
from pybuild.sizes import parse_duration, parse_size
from values.classes import dataclass

if TYPE_CHECKING:
    from pybuild.engine.cacheprune import Plan, Policy
    from store.root import Store

T = TypeVar("T")

_GB = 1_000_000_000
_KNOWN = (
    "enabled",
    "reserved-space",
    "max-used-space",
    "min-free-space",
    "keep-duration",
    "interval",
)
_CHEAP = (LOCAL, MOUNT, GIT, HTTP, KEPT)  # what is got again most easily
_CHEAP_KEPT_S, _CHEAP_BYTES = 48 * 3600, 512_000_000
_RECORD_DAYS = 90
_HISTORY_S, _HISTORY_ENTRIES = 30 * 86400.0, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GcSettings:
    """What collections keep, in bytes and seconds.

    interval_s: how long after a collection the next build does none, unless the disk gets full.
    """

    enabled: bool
    reserved: int
    max_used: int
    min_free: int
    kept_s: float
    interval_s: float

    def policies(self, now_s: float) -> list[Policy]:
        """Return the policies in the order in which they are followed.

        A layer that an image has too takes no room of its own, so there is none for all.
        """
        from pybuild.engine.cachefilters import CacheFilters
        from pybuild.engine.cacheprune import Policy

        def policy(unused_s: float) -> Policy:
            return Policy(
                filters=CacheFilters(before_s=now_s - unused_s),
                reserved=self.reserved,
                max_used=self.max_used,
                min_free=self.min_free,
            )

        cheap = CacheFilters(before_s=now_s - _CHEAP_KEPT_S)
        return [
            Policy(types=_CHEAP, filters=cheap, max_used=_CHEAP_BYTES),
            policy(self.kept_s),
            policy(0),
        ]


def gc_settings(disk_bytes: int) -> GcSettings:
    """Return the settings for a disk of this size. Raises PybuildError for one that is wrong.

    By default at most 80 % of the disk and 100 GB are used, a fifth of the disk stays free, and
    a tenth, or 10 GB, is always the cache's.
    """
    given = settings("gc", _KNOWN)

    def size(name: str, default: int) -> int:
        if name not in given:
            return default
        return _checked(*given[name], lambda text: _size(text, disk_bytes))

    def seconds(name: str, default: float) -> float:
        return _checked(*given[name], parse_duration) if name in given else default

    enabled = _checked(*given["enabled"], _truth) if "enabled" in given else True
    return GcSettings(
        enabled=enabled,
        reserved=size("reserved-space", min(disk_bytes // 10, 10 * _GB)),
        max_used=size("max-used-space", min(disk_bytes * 8 // 10, 100 * _GB)),
        min_free=size("min-free-space", disk_bytes // 5),
        kept_s=seconds("keep-duration", 60 * 86400.0),
        interval_s=seconds("interval", 3600.0),
    )


def collect_if_due(store: Store) -> Plan | None:
    """Collect garbage when it is time to, and return what went; None when nothing was done.

    The time of the file locks/gc, which is there, is that of the last collection.

    Raises PybuildError for a wrong setting, StoreError when the store is damaged.
    """
    from pybuild.engine.cacheprune import prune, prune_aside
    from store.cacheusage import forget_old
    from store.errors import InUse

    now_s = time.time()
    stamp = store.folder.path("locks", "gc")
    passed_s = now_s - os.stat(stamp).st_mtime
    free, whole = disk_of(store.root)
    known = gc_settings(whole)
    is_due = passed_s < 0 or passed_s >= known.interval_s or free < known.min_free
    if not known.enabled or not is_due:
        return None
    os.utime(stamp)
    try:
        plan = prune(store, known.policies(now_s))
    except InUse:
        # Another builds: who is last collects the rest.
        os.utime(stamp, (0, now_s - known.interval_s))
        return prune_aside(store, known.policies(now_s))
    forget_old(store.records, _RECORD_DAYS)
    forget_old_builds(store)
    return plan


def forget_old_builds(store: Store) -> int:
    """Delete old builds of the journal with their logs; return the bytes that freed.

    Kept is what is young enough or one of the newest, as BuildKit has it, which keeps 48 hours and
    50 builds. Raises PybuildError for a wrong setting, StoreError.
    """
    from store.journal import forget_old

    given = settings("history", ("max-age", "max-entries"))
    age_s, entries = _HISTORY_S, _HISTORY_ENTRIES
    if "max-age" in given:
        age_s = _checked(*given["max-age"], parse_duration)
    if "max-entries" in given:
        entries = _checked(*given["max-entries"], _count)
    return forget_old(store, age_s, entries)


def _checked(value: object, place: str, read: Callable[[str], T]) -> T:
    """Return what a setting says; a number is a size or seconds as it stands."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int | float | str):
        text = str(value)
    else:
        raise PybuildError(f"{place}: is neither text nor a number")
    try:
        return read(text)
    except ValueError as error:
        raise PybuildError(f"{place}: {error}") from error


def _size(text: str, disk_bytes: int) -> int:
    number, percent, _ = text.partition("%")
    if percent and number.strip().isdecimal():
        return disk_bytes * int(number) // 100
    return parse_size(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f'"{text}" is no number of builds')
    return int(text)


def _truth(text: str) -> bool:
    if text.lower() in ("true", "1", "on", "yes"):
        return True
    if text.lower() in ("false", "0", "off", "no"):
        return False
    raise ValueError(f'"{text}" is neither true nor false')
