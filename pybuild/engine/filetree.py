"""A root file system at a path of this process: a step's, an image's or a container's.

Owns how links are followed: as in the container, never out of it. Refuses to know what was mounted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pybuild.engine.held import Held
from pybuild.errors import PybuildError

if TYPE_CHECKING:
    from pybuild.engine.journal import JournalStep
    from store.digest import DiffID
    from store.root import Store


_T = TypeVar("_T")


class FileTree(Held):
    """A root file system, open for reading; a context manager that closes it.

    path: of its root, for this process and those that it starts, as long as the tree is open. An
    absolute link below it leads to this machine's files: `tree / "etc/passwd"` and the methods
    follow links as in the container.
    """

    def __init__(self, root_fd: int, held: AbstractContextManager[object] | None = None) -> None:
        """root_fd: becomes the tree's. held: is left when the tree is closed."""
        super().__init__()
        self._fd = root_fd
        self._held.callback(os.close, root_fd)
        if held is not None:
            self._held.enter_context(held)
        self.path = Path(f"/proc/{os.getpid()}/fd/{root_fd}")

    def close(self) -> None:
        """Close the tree; again is fine."""
        super().close()
        self._fd = -1

    def __truediv__(self, path: str | os.PathLike[str]) -> Path:
        """Return where `path` really is, all links on the way followed inside the tree."""
        return self.path / self._resolved(path)

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether something is at `path`; a link to nothing is nothing."""
        return os.path.lexists(self / path)

    def names(self, path: str | os.PathLike[str] = "/") -> list[str]:
        """Return the names in a directory, sorted. Raises OSError."""
        return self._with(path, os.O_RDONLY | os.O_DIRECTORY, lambda fd: sorted(os.listdir(fd)))

    def stat(self, path: str | os.PathLike[str]) -> os.stat_result:
        """Return what stat(2) says of `path`. Raises OSError."""
        return self._with(path, os.O_PATH, os.fstat)

    def read_bytes(self, path: str | os.PathLike[str]) -> bytes:
        """Return what a regular file holds. Raises OSError, PybuildError for what is none."""

        def read(fd: int) -> bytes:
            import stat

            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise PybuildError(f"read {os.fspath(path)}: not a regular file")
            with open(fd, "rb", closefd=False) as file:
                return file.read()

        # O_NONBLOCK: a fifo must not hang us.
        return self._with(path, os.O_RDONLY | os.O_NONBLOCK, read)

    def read_text(self, path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
        """Return the text that a regular file holds. Raises as `read_bytes`, UnicodeDecodeError."""
        return self.read_bytes(path).decode(encoding)

    def _resolved(self, path: str | os.PathLike[str]) -> str:
        from builder.rootpath import resolve

        if self._fd < 0:
            raise PybuildError(f"{os.fspath(path)}: the tree is closed")
        return resolve(f"/proc/self/fd/{self._fd}", os.fspath(path))

    def _with(self, path: str | os.PathLike[str], flags: int, use: Callable[[int], _T]) -> _T:
        from store.linux import open_beneath

        # No link is followed any more: whoever changes the tree meanwhile leads nowhere.
        fd = open_beneath(self._fd, self._resolved(path) or ".", flags)
        try:
            return use(fd)
        finally:
            os.close(fd)


def open_chain(store: Store, chain: tuple[DiffID, ...], what: str) -> FileTree:
    """Open what layers show, base first. Raises PybuildError where some are gone."""
    from runtime.mounting import open_overlay

    with ExitStack() as stack:
        stack.enter_context(store.lease())
        missing = [diff_id for diff_id in chain if not store.layers.has(diff_id)]
        if missing:
            raise PybuildError(
                f"{what}: layer {missing[0][:19]} is gone", hint="it was pruned; build it again"
            )
        return FileTree(open_overlay(store.snapshots.view(chain)), stack.pop_all())


def open_image(store: Store, name: str, platform: str | None = None) -> FileTree:
    """Open the root file system of an image. Raises NotFound, PybuildError."""
    from pybuild.engine import images

    chain = images.find(store, name, platform).config.diff_ids
    return open_chain(store, chain, f"image {name}")


def open_step(store: Store, build_id: str, step: str) -> FileTree:
    """Open the root file system that a step of a build left. Raises PybuildError.

    step: its number, its place (`web 3/5`) or a part of its text.
    """
    from pybuild.engine import journal

    build = journal.show(store, build_id)
    found = journal.steps_of(build, step)
    return open_chain(store, _chain_of(store, found), f"step {found.row.number} {found.name}")


_NO_FILES = {
    "failed": "failed",
    "cancelled": "was stopped",
    "killed": "was killed",
    "running": "is still running",
}


def _chain_of(store: Store, step: JournalStep) -> tuple[DiffID, ...]:
    from store.digest import DiffID

    row = step.row
    if row.status not in ("done", "adopted", "cached"):
        raise PybuildError(
            f"step {row.number} {step.name}: it {_NO_FILES[row.status]}, so it left no files",
            hint="open the step before it",
        )
    records = store.records.every(row.key)
    own = [record for record in records if record.build_id == row.build_id] or records
    for record in own:
        parent = record.ingredients.get("parent")
        if isinstance(parent, list):
            return (*map(DiffID, map(str, parent)), *record.diff_ids)
    raise PybuildError(
        f"step {row.number} {step.name}: its record is gone", hint="it was pruned; build it again"
    )
