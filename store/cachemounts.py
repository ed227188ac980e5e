"""Cache mounts: directories that outlive builds, by what a Dockerfile calls them.

Owns which directory a user gets, and who else may use it meanwhile. A cache mount has instances:
more than one only when users that want theirs alone meet. Clearing one begins a new generation;
what is still in use of the old one stays until its users are gone. Refuses to know what is in them:
losing one costs time only, so nothing here is made durable.

On disk: cachemounts/<name>/record.json, and <name>/<generation>.<number>/{fs,lock}; the lock of
the whole mount is locks/cachemount-<name>. An instance is used under the flock of its `lock`,
which is handed on to whatever writes there, so that it ends with the last of them.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from store.digest import digest_of, hex_of
from store.errors import Corrupt, InUse, NewerFormat, NotFound, StoreError, disk_errors
from store.folder import Folder, claim_abandoned, names_in
from store.locks import acquire
from values.classes import dataclass

VERSION = 1

_RECORD = "record.json"
_FIRST_WAIT_S = 0.005
_WAIT_S = 0.1

Wait = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class CacheMountKey:
    """What one cache mount is found by.

    id: as the Dockerfile calls it. base: the digest of what a new one begins as, "" for an empty
    directory with the usual owner and mode.
    """

    id: str
    base: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return hex_of(digest_of(json.dumps([self.id, self.base]).encode()))[:32]


@dataclass(frozen=True, slots=True)
class CacheMountInfo:
    """A cache mount as it lies there.

    paths: the directories of its instances. used_ns: when one was last given out, created_ns: when
    it began or was last cleared (ns since the epoch).
    """

    key: CacheMountKey
    paths: tuple[str, ...]
    used_ns: int
    created_ns: int = 0


@dataclass(frozen=True, slots=True)
class Instance:
    """A directory in use; `lock_fd` holds its flock and is to be inherited by who writes there."""

    path: str
    lock_fd: int

    def close(self) -> None:
        """Let go of it."""
        os.close(self.lock_fd)


class CacheMounts:
    """The cache mounts of one store."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._root = folder.path("cachemounts")

    def use(
        self, key: CacheMountKey, *, sharing: str, make: Callable[[str], object], wait: Wait
    ) -> Instance:
        """Return a directory of `key` that the caller may use until it closes it.

        sharing: `shared` takes one that others use too, `private` one that nobody uses, a new one
        if need be; `locked` waits until nobody uses it. make: makes a new one at the path given,
        whose parent exists. wait: called with seconds when there is somebody to wait for; it may
        raise to give up. Raises StoreError, and what `make` raises.
        """
        with disk_errors(f"cache mount {key.id}", self._root):
            while True:
                with self._locked(key.name, wait):
                    names = self._current(key)
                    for name in names:
                        instance = self._try(key, name, shared=sharing == "shared")
                        if instance is not None:
                            return instance
                    if not names or sharing != "locked":
                        return self._new(key, names, make, shared=sharing == "shared")
                wait(_WAIT_S)

    def replace(
        self, key: CacheMountKey, *, make: Callable[[str], object], wait: Wait = time.sleep
    ) -> None:
        """Begin a new generation with the directory that `make` makes at the path given."""
        with disk_errors(f"cache mount {key.id}", self._root), self._locked(key.name, wait):
            if self._current(key):
                self._write(key, self._generation(key.name) + 1)
                self._remove_unused(key.name, keep=None)
            self._new(key, [], make, shared=False).close()

    def clear(self, key: CacheMountKey, wait: Wait = time.sleep) -> int:
        """Begin a new generation; return how many directories went at once, the unused ones."""
        with disk_errors(f"clear cache mount {key.id}", self._root), self._locked(key.name, wait):
            folder = f"{self._root}/{key.name}"
            if not os.path.isdir(folder):
                return 0
            self._write(key, self._generation(key.name) + 1)
            gone = self._remove_unused(key.name, keep=None)
            if not self._instances(key.name):
                self._folder.remove_tree(folder)
            return gone

    def mounts(self) -> list[CacheMountInfo]:
        """Return all cache mounts, by their ids."""
        found = []
        for name in names_in(self._root):
            with contextlib.suppress(NotFound, Corrupt):
                key, generation = self._read(name)
                paths = tuple(
                    f"{self._root}/{name}/{instance}/fs"
                    for instance in self._instances(name)
                    if _generation_of(instance) == generation
                )
                used_ns = max((self._used_ns(path) for path in paths), default=0)
                created_ns = _mtime_ns(f"{self._root}/{name}/{_RECORD}")
                found.append(CacheMountInfo(key, paths, used_ns, created_ns))
        return sorted(found, key=lambda info: (info.key.id, info.key.base))

    def is_used(self, info: CacheMountInfo) -> bool:
        """Tell whether somebody works in one of its directories at this moment."""
        for path in info.paths:
            try:
                os.close(acquire(f"{os.path.dirname(path)}/lock", blocking=False))
            except InUse:
                return True
            except FileNotFoundError:
                continue  # cleared meanwhile
        return False

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each cache mount that is damaged, with the cause."""
        for name in names_in(self._root):
            try:
                key, _ = self._read(name)
            except NotFound:
                continue  # its maker was killed
            except StoreError as error:
                yield name, str(error).removeprefix(f"cache mount {name}: ")
                continue
            if key.name != name:
                yield name, f"its record is of cache mount {key.id}"
            for instance in self._instances(name):
                path = f"{self._root}/{name}/{instance}"
                if not os.path.isdir(f"{path}/fs") and os.path.isdir(path):
                    yield name, f"its directory {instance} is gone"

    def drop(self, name: str, wait: Wait = time.sleep) -> None:
        """Delete the cache mount in the folder `name`, whatever is in it, from under its users."""
        with self._locked(name, wait):
            self._folder.remove_tree(f"{self._root}/{name}")

    def find(self, id_: str) -> list[CacheMountInfo]:
        """Return the cache mounts called `id_`; several where they began as different things.

        Raises NotFound when there is none.
        """
        found = [info for info in self.mounts() if info.key.id == id_]
        if not found:
            raise NotFound(f"cache mount {id_}: there is none")
        return found

    def sweep(self) -> None:
        """Delete what earlier generations left and nobody uses any more.

        Only inside an exclusive lease.
        """
        for name in names_in(self._root):
            with self._locked(name, time.sleep):
                try:
                    _, generation = self._read(name)
                except (NotFound, Corrupt):
                    generation = None
                self._remove_unused(name, keep=generation)
                if not self._instances(name):
                    self._folder.remove_tree(f"{self._root}/{name}")

    # -- one mount, its lock held

    @contextmanager
    def _locked(self, name: str, wait: Wait) -> Iterator[None]:
        fd = _acquire(self._folder.path("locks", f"cachemount-{name}"), wait)
        try:
            yield
        finally:
            os.close(fd)

    def _current(self, key: CacheMountKey) -> list[str]:
        """Return the names of the instances of the present generation."""
        try:
            _, generation = self._read(key.name)
        except (NotFound, Corrupt):
            self._folder.remove_tree(f"{self._root}/{key.name}")
            return []
        names = self._instances(key.name)
        return [name for name in names if _generation_of(name) == generation]

    def _try(self, key: CacheMountKey, name: str, *, shared: bool) -> Instance | None:
        path = f"{self._root}/{key.name}/{name}"
        try:
            fd = acquire(f"{path}/lock", shared=shared, blocking=False)
        except InUse:
            return None
        os.utime(f"{path}/lock")
        return Instance(f"{path}/fs", fd)

    def _new(
        self, key: CacheMountKey, names: list[str], make: Callable[[str], object], *, shared: bool
    ) -> Instance:
        folder = f"{self._root}/{key.name}"
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o700)
            self._write(key, 0)
        generation = self._generation(key.name)
        number = 1 + max((int(name.partition(".")[2]) for name in names), default=-1)
        scratch = self._folder.scratch_directory()
        try:
            make(f"{scratch.path}/fs")
            fd = acquire(f"{scratch.path}/lock", shared=shared)
            try:
                os.rename(scratch.path, f"{folder}/{generation}.{number}")
            except BaseException:
                os.close(fd)
                raise
        except BaseException:
            self._folder.remove_tree(scratch.path)
            raise
        finally:
            os.close(scratch.fd)
        return Instance(f"{folder}/{generation}.{number}/fs", fd)

    def _instances(self, name: str) -> list[str]:
        try:
            names = os.listdir(f"{self._root}/{name}")
        except FileNotFoundError:
            return []
        found = [name for name in names if _is_instance(name)]
        return sorted(found, key=lambda name: [int(part) for part in name.split(".")])

    def _remove_unused(self, name: str, keep: int | None) -> int:
        """Delete the instances that nobody uses but those of generation `keep`; count them."""
        gone = 0
        for instance in self._instances(name):
            path = f"{self._root}/{name}/{instance}"
            if _generation_of(instance) == keep:
                continue
            fd = claim_abandoned(f"{path}/lock")
            if fd is not None:
                self._folder.remove_tree(path, later=True)
                os.close(fd)
                gone += 1
        return gone

    def _used_ns(self, path: str) -> int:
        return _mtime_ns(f"{os.path.dirname(path)}/lock")

    def _generation(self, name: str) -> int:
        """Return the present generation; of a damaged record the newest that has a directory."""
        try:
            return self._read(name)[1]
        except Corrupt:
            return max(map(_generation_of, self._instances(name)), default=0)

    def _read(self, name: str) -> tuple[CacheMountKey, int]:
        """Return what the record says. Raises NotFound, Corrupt, NewerFormat."""
        try:
            with open(f"{self._root}/{name}/{_RECORD}", "rb", buffering=0) as file:
                value = json.loads(file.read())
            if value["version"] > VERSION:
                raise NewerFormat(
                    f"cache mount {name}: format {value['version']} is newer than {VERSION}"
                )
            return CacheMountKey(str(value["id"]), str(value["base"])), int(value["generation"])
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"cache mount {name}: there is none") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"cache mount {name}: its record is damaged") from error

    def _write(self, key: CacheMountKey, generation: int) -> None:
        value = {"version": VERSION, "id": key.id, "base": key.base, "generation": generation}
        path = f"{self._root}/{key.name}/{_RECORD}"
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.rename(f"{path}.new", path)


def _acquire(path: str, wait: Wait) -> int:
    """Take a lock, calling `wait` while another holds it."""
    pause = _FIRST_WAIT_S
    while True:
        try:
            return acquire(path, blocking=False)
        except InUse:
            wait(pause)
            pause = min(2 * pause, _WAIT_S)


def _mtime_ns(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_mtime_ns
    return 0


def _is_instance(name: str) -> bool:
    generation, _, number = name.partition(".")
    return generation.isdecimal() and number.isdecimal()


def _generation_of(name: str) -> int:
    return int(name.partition(".")[0])
