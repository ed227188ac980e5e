"""A store: one folder that many processes share, and the parts that live in it."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from types import TracebackType

from store import linux, manner
from store.content import ContentStore
from store.errors import NewerFormat, NotFound, StoreError, disk_errors
from store.folder import Folder, write_durably
from store.locks import held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from store.buildjournal import BuildJournal
    from store.buildrecords import BuildRecords
    from store.cachemounts import CacheMounts
    from store.images import ImageStore
    from store.layers import LayerStore
    from store.snapshots import Snapshots

VERSION = 1

_FOLDERS = (
    "blobs/sha256",
    "layers/sha256",
    "chains/sha256",
    "l",
    "snapshots",
    "images",
    "logs",
    "locks",
    "trash",
    "tmp",
    "stubs",
    "containers",
)

# Where trees are made that have nothing to do with each other.
_SPREAD = ("snapshots", "tmp")


class Store:
    """One store; its parts are made when first touched, so that a verb imports what it uses.

    root: its absolute path. Opening is cheap. can_overlay: tells whether overlays can be mounted
    on its file system, for those who know; without it they can. Set before the first snapshot.
    on_damage: told of each damaged record that is met, once; it counts as none.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.can_overlay: Callable[[], bool] | None = None
        self.on_damage: Callable[[Exception], None] | None = None
        self._damaged: set[str] = set()
        self.folder = Folder(root)

    @classmethod
    def open(cls, root: str | os.PathLike[str], *, create: bool = True) -> "Store":
        """Open the store in the folder `root`, made if absent and `create`.

        Raises NewerFormat when a later version wrote it, NotFound when it is absent and may not
        be made, StoreError when the folder cannot be used or holds something else.
        """
        path = os.path.abspath(os.fspath(root))
        with disk_errors(f"open store {path}", path):
            if _version(path) is None:
                if not create:
                    raise NotFound(f"open store {path}: there is none")
                _make(path)
            manner.check(path)
        return cls(path)

    @staticmethod
    def is_at(root: str | os.PathLike[str]) -> bool:
        """Tell whether there is a store in the folder `root`, for who makes none to look.

        Raises NewerFormat, StoreError when the folder holds something else.
        """
        path = os.path.abspath(os.fspath(root))
        with disk_errors(f"open store {path}", path):
            if _version(path) is None:
                _refuse_foreign(path)
                return False
        return True

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release what the parts hold open."""
        snapshots = self.__dict__.pop("snapshots", None)
        if snapshots is not None:
            snapshots.close()
        self.close_records()
        self.folder.close()

    def close_records(self) -> None:
        """Close `records.db`; the next use opens it again."""
        self.__dict__.pop("journal", None)
        records = self.__dict__.pop("records", None)
        if records is not None:
            records.close()

    def note_damage(self, error: Exception) -> None:
        """Say that a record is damaged, where someone listens and was not told; from any thread."""
        text = str(error)
        if text not in self._damaged and self.on_damage is not None:
            self._damaged.add(text)
            self.on_damage(error)

    @cached_property
    def content(self) -> ContentStore:
        """The blobs."""
        return ContentStore(self.folder)

    @cached_property
    def layers(self) -> "LayerStore":
        """The unpacked layers."""
        from store.layers import LayerStore

        return LayerStore(self.folder, self.content)

    @cached_property
    def snapshots(self) -> "Snapshots":
        """Writable trees on top of layers."""
        from store.snapshots import Snapshots

        return Snapshots(self.folder, self.layers, self.can_overlay)

    @cached_property
    def images(self) -> "ImageStore":
        """Images and the references that name them."""
        from store.images import ImageStore

        return ImageStore(self)

    @cached_property
    def records(self) -> "BuildRecords":
        """The build cache's records (SQLite)."""
        from store.buildrecords import BuildRecords

        return BuildRecords(self.folder.path("records.db"), on_damage=self.note_damage)

    @cached_property
    def journal(self) -> "BuildJournal":
        """The journal of builds, in the same database."""
        from store.buildjournal import BuildJournal

        return BuildJournal(self.records)

    @cached_property
    def cache_mounts(self) -> "CacheMounts":
        """The directories of RUN --mount=type=cache."""
        from store.cachemounts import CacheMounts

        return CacheMounts(self.folder)

    def lock(self, name: str) -> AbstractContextManager[int]:
        """Hold the lock called `name` (any text); the value is its descriptor, to be inherited."""
        return self.folder.lock(name)

    def lease(self) -> AbstractContextManager[None]:
        """Keep garbage collection out; a build takes it before its first look-up."""
        return self.folder.lease()

    def exclusive_lease(self) -> AbstractContextManager[None]:
        """Be the only user of the store, for garbage collection. Raises InUse at once if not."""
        return self.folder.exclusive_lease()

    def recover(self) -> list[str]:
        """Clear away what killed processes left; return the ids of the snapshots removed.

        Only inside an exclusive lease. A store is sound without it: this frees space.
        """
        from store import aliases, chains

        removed = self.snapshots.recover()
        chains.sweep(self.folder)
        aliases.sweep(self.folder)
        self.cache_mounts.sweep()
        self.folder.sweep()
        return removed

    def remove_tree(self, path: str | os.PathLike[str]) -> None:
        """Take `path` out of the store at once, then delete it; absent is fine."""
        self.folder.remove_tree(os.fspath(path))


def _version(root: str) -> int | None:
    """Return the version of the store in `root`, None when there is none.

    Raises NewerFormat, StoreError for a version file that holds no number.
    """
    try:
        with open(f"{root}/version", "rb") as file:
            text = file.read(32).strip()
    except FileNotFoundError:
        return None
    if not text.isdigit():
        raise StoreError(f"open store {root}: its version file holds no number")
    version = int(text)
    if version > VERSION:
        raise NewerFormat(
            f"open store {root}: its format {version} is newer than {VERSION}, the newest known",
            hint="use the pybuild that made it, or another --root",
        )
    return version


def _make(root: str) -> None:
    """Make the folders; the version file comes last, so that a store without it is unfinished."""
    _refuse_foreign(root)
    os.makedirs(f"{root}/locks", mode=0o700, exist_ok=True)
    with held(f"{root}/locks/store"):
        if _version(root) is None:
            for name in _FOLDERS:
                os.makedirs(f"{root}/{name}", mode=0o700, exist_ok=True)
            for name in _SPREAD:
                linux.spread_directories(f"{root}/{name}")
            manner.stamp(root)
            write_durably(Folder(root), f"{root}/version", b"%d\n" % VERSION)


def _refuse_foreign(root: str) -> None:
    """Raise StoreError when `root` holds something that is not ours: it is not ours to fill."""
    ours = {name.split("/")[0] for name in _FOLDERS} | {"version", "manner"}
    try:
        foreign = sorted(set(os.listdir(root)) - ours)
    except FileNotFoundError:
        return
    if foreign:
        raise StoreError(
            f"open store {root}: the folder is no store and holds {foreign[0]!r}",
            hint="name an empty or absent folder",
        )
