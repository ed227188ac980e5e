"""The engine's methods about the build cache and the health of the store."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.engine.core import OpenStore
from values.classes import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from pybuild.engine.cacheentries import CacheView
    from pybuild.engine.cachemounts import CacheMountSize, TreeLine
    from pybuild.engine.cacheprune import Plan, Policy
    from pybuild.engine.cacheverify import Damage
    from pybuild.engine.diskusage import Usage


class Caching(OpenStore):
    """What builds left behind to be used again, and what is damaged or needed by nobody."""

    def cache_view(self, filters: Sequence[str] = ()) -> CacheView:
        """Return what the build cache holds and remembers, the entries used last first.

        filters: `key=value` each, see pybuild.engine.cachefilters.
        """
        from pybuild.engine.cacheentries import view_of
        from pybuild.engine.cachefilters import parse_filters

        chosen = parse_filters(filters)
        view = view_of(self.store)
        return replace(view, entries=tuple(filter(chosen.fit, view.entries)))

    def cache_entry(self, name: str) -> dict[str, object]:
        """Return all that is stored about an entry, as JSON values.

        name: the beginning of its ID or key, a cache mount's id or an address.
        Raises PybuildError.
        """
        from pybuild.engine import cacheshow

        return cacheshow.described(self.store, cacheshow.find(self.store, name))

    def prune_cache(self, policy: Policy, *, dry_run: bool = False) -> Plan:
        """Let go of what a policy says and return what went; `dry_run`: what would go.

        Raises InUse while a build runs.
        """
        from pybuild.engine.cacheprune import prune

        return prune(self.store, [policy], dry_run=dry_run)

    def verify_cache(self) -> list[Damage]:
        """Read every byte; drop what is damaged, so that it is made anew, and return it.

        Raises InUse when something is damaged while a build runs.
        """
        from pybuild.engine.cacheverify import verify

        return verify(self.store)

    def cache_mounts(self) -> list[CacheMountSize]:
        """Return the directories of `RUN --mount=type=cache`, by their ids."""
        from pybuild.engine import cachemounts

        return cachemounts.cache_mounts(self.store)

    def cache_mount_trees(self, id_: str) -> list[list[TreeLine]]:
        """Return what is in each directory of the cache mounts called `id_`. Raises NotFound."""
        from pybuild.engine import cachemounts

        return cachemounts.trees(self.store, id_)

    def remove_cache_mounts(self, ids: Sequence[str]) -> list[str]:
        """Clear the cache mounts called so, all without `ids`; return the ids. Raises NotFound."""
        from pybuild.engine import cachemounts

        return cachemounts.remove(self.store, ids)

    def export_cache_mounts(self, ids: Sequence[str], target: BinaryIO | str) -> None:
        """Write cache mounts, all without `ids`, to a stream or a file. Raises NotFound."""
        from pybuild.engine import cachemounts

        cachemounts.export(self.store, ids, target)

    def import_cache_mounts(self, source: BinaryIO) -> list[str]:
        """Take in what `export_cache_mounts` wrote; return the ids. Raises BadArchive."""
        from pybuild.engine import cachemounts

        return cachemounts.import_(self.store, source)

    def info(self) -> dict[str, object]:
        """Return what there is to know about the installation, the host and the store."""
        from pybuild.engine import info

        return info.described(self.root, self.store)

    def disk_usage(self) -> list[Usage]:
        """Return what images, containers and the build cache take, as docker counts it."""
        from pybuild.engine.diskusage import usage_of

        return usage_of(self.store)

    def check(self, *, deep: bool = False) -> list[str]:
        """Return a line for each damage in the store; `deep` reads every byte."""
        from pybuild.engine import upkeep

        return upkeep.check(self.store, deep=deep)

    def prune(self, *, forget_cache: bool = False) -> int:
        """Remove what nothing refers to and return the bytes that freed."""
        from pybuild.engine import upkeep

        return upkeep.prune(self.store, forget_cache=forget_cache)
