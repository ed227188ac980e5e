"""The engine's methods about the build cache and the health of the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from pybuild.engine.core import OpenStore

if TYPE_CHECKING:
    from pybuild.engine.cachemounts import CacheMountSize, TreeLine
    from pybuild.engine.upkeep import CacheEntry


class Caching(OpenStore):
    """What builds left behind to be used again, and what is damaged or needed by nobody."""

    def cache_entries(self) -> list[CacheEntry]:
        """Return what the build cache remembers, newest first."""
        from pybuild.engine import upkeep

        return upkeep.cache_entries(self.store)

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

        return info.described(self.store)

    def check(self, *, deep: bool = False) -> list[str]:
        """Return a line for each damage in the store; `deep` reads every byte."""
        from pybuild.engine import upkeep

        return upkeep.check(self.store, deep=deep)

    def prune(self, *, forget_cache: bool = False) -> int:
        """Remove what nothing refers to and return the bytes that freed."""
        from pybuild.engine import upkeep

        return upkeep.prune(self.store, forget_cache=forget_cache)
