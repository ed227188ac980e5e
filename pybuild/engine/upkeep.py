"""The store's upkeep: damage, and what can go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.engine import cacheprune
from pybuild.engine.containers import listed

if TYPE_CHECKING:
    from store.root import Store


def check(store: Store, *, deep: bool) -> list[str]:
    """Return a line for each damage in the store."""
    from store.check import check as problems_of

    return [str(problem) for problem in problems_of(store, deep)]


def prune(store: Store, *, forget_cache: bool) -> int:
    """Remove what nothing refers to and return the bytes that freed.

    forget_cache: the build cache too, its cache mounts and its records. Of the journal goes what
    would go by itself, and of its builds all that is kept of their steps.
    """
    from pybuild.engine.cachegc import forget_old_builds
    from store.gc import collect
    from store.keptsteps import kept_steps, remove_unused

    freed = store.folder.empty_trash()  # first: a full disk lets nothing else be written
    listed(store, everything=True)  # what killed supervisors have left goes before what it used
    freed += remove_unused(store, kept_steps(store))
    freed += collect(store)
    if forget_cache:
        freed += cacheprune.prune(store, [cacheprune.Policy(everything=True)]).freed_bytes
        store.records.forget()
    return freed + forget_old_builds(store)
