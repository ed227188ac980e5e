"""The directories of `RUN --mount=type=cache`, as the Engine offers them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from pybuild.engine.transfers import whole_file
from values.classes import dataclass

if TYPE_CHECKING:
    from store.cachemounts import CacheMountInfo
    from store.root import Store


@dataclass(frozen=True, slots=True)
class CacheMountSize:
    """A cache mount with the bytes and the files in its directories."""

    info: CacheMountInfo
    size_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class TreeLine:
    """A file or directory in a cache mount, `depth` levels down; a directory counts as a whole."""

    name: str
    depth: int
    size_bytes: int
    is_dir: bool


def cache_mounts(store: Store) -> list[CacheMountSize]:
    """Return every cache mount, by its id."""
    sizes = []
    for info in store.cache_mounts.mounts():
        lines = [line for path in info.paths for line in tree(path)]
        files = [line.size_bytes for line in lines if not line.is_dir]
        sizes.append(CacheMountSize(info, sum(files), len(files)))
    return sizes


def trees(store: Store, id_: str) -> list[list[TreeLine]]:
    """Return what is in each directory of the cache mounts called `id_`. Raises NotFound."""
    return [tree(path) for info in store.cache_mounts.find(id_) for path in info.paths]


def tree(path: str) -> list[TreeLine]:
    """Return a directory's contents, parents first, with the size of everything below each.

    Steps may be at work there: descriptors are followed, never links, and what goes is left out.
    """
    sizes: dict[str, int] = {}
    found: list[tuple[str, int, bool]] = []
    for folder, folders, names, fd in os.fwalk(path, follow_symlinks=False):
        folders.sort()
        found.append((folder, 0, True))
        for name in sorted(names):
            size = _size(name, fd)
            found.append((os.path.join(folder, name), size, False))
            place = folder
            while len(place) >= len(path):
                sizes[place] = sizes.get(place, 0) + size
                place = os.path.dirname(place)
    above = path.rstrip("/").count("/")
    return [
        TreeLine(
            os.path.basename(name),
            name.count("/") - above,
            sizes.get(name, 0) if is_dir else size,
            is_dir,
        )
        for name, size, is_dir in sorted(found)
    ]


def _size(name: str, fd: int) -> int:
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def remove(store: Store, ids: Sequence[str]) -> list[str]:
    """Clear the cache mounts called so, all without `ids`; return the ids of those that went.

    What a build uses stays with that build, and nobody else gets it. Raises NotFound.
    """
    return [info.key.id for info in _chosen(store, ids) if store.cache_mounts.clear(info.key) >= 0]


def export(store: Store, ids: Sequence[str], target: BinaryIO | str) -> None:
    """Write cache mounts, all without `ids`, to a stream or a file, which appears whole.

    Raises NotFound.
    """
    from store.cachemountarchive import export_mounts

    chosen = list(_chosen(store, ids))
    if isinstance(target, str):
        with whole_file(target) as out:
            export_mounts(store.cache_mounts, chosen, out)
    else:
        export_mounts(store.cache_mounts, chosen, target)


def import_(store: Store, source: BinaryIO) -> list[str]:
    """Take in what `export` wrote; return the ids. Raises BadArchive."""
    from store.cachemountarchive import import_mounts

    with store.lease():
        return [key.id for key in import_mounts(store.folder, store.cache_mounts, source)]


def _chosen(store: Store, ids: Sequence[str]) -> Iterator[CacheMountInfo]:
    if not ids:
        yield from store.cache_mounts.mounts()
    for found in [store.cache_mounts.find(id_) for id_ in ids]:
        yield from found
