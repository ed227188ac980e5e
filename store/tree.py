"""A directory tree being written, in which no name can lead out.

Names are resolved by descriptors. The tree belongs to this process alone, so what was looked at
does not change; symlinks that it holds are followed as if the tree were the root.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from store.errors import BadArchive
from store.linux import open_beneath
from store.trash import delete_at

_MOST_LINKS = 40  # as the kernel
_MOST_OPEN = 128
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_DIRECTORY


def shown(path: bytes) -> str:
    """Return raw bytes as text that is safe in one line of an error."""
    return path.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii")[:300]


class Place(NamedTuple):
    """Where an entry is or will be: a name in an open directory.

    path: relative to the tree, without symlinks on the way.
    """

    fd: int
    name: bytes
    path: bytes

    def status(self) -> os.stat_result | None:
        """Return the lstat of what is there, None for nothing."""
        try:
            return os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def proc_path(self) -> str:
        """Return a path for the calls that take no directory descriptor."""
        return f"/proc/self/fd/{self.fd}/{os.fsdecode(self.name)}"


class Tree:
    """The tree below `root_fd`; remembers the directories used last.

    make_missing: called with the place of a parent directory that is not there and must be.
    open_below: opens a directory below another without following a symlink.
    """

    def __init__(
        self,
        root_fd: int,
        make_missing: Callable[[Place], None],
        open_below: Callable[[int, bytes, int], int] = open_beneath,
    ) -> None:
        self.root_fd = root_fd
        self._open_below = open_below
        self._make_missing = make_missing
        self._known: dict[bytes, tuple[int, bytes]] = {}
        self._stale: list[int] = []
        self._last: tuple[bytes, int, bytes] = (b"", root_fd, b"")

    def close(self) -> None:
        """Close what is open; the root's descriptor stays the caller's."""
        self.forget()
        self.settle()

    def settle(self) -> None:
        """Close descriptors out of use; every place given so far becomes invalid."""
        if self._stale:
            for fd in self._stale:
                os.close(fd)
            self._stale.clear()
            self._last = (b"", self.root_fd, b"")

    def forget(self) -> None:
        """Look anew from now on: a directory was taken away."""
        self._stale += [fd for fd, _ in self._known.values()]
        self._known.clear()
        self._last = (b"", self.root_fd, b"")

    def place(self, parent: bytes, name: bytes) -> Place:
        """Return the place of `name` in the directory `parent`, which is made if missing.

        The place is good until `settle`.
        """
        known, fd, real = self._last
        if known != parent:
            fd, real = self._parent(parent)
            self._last = (parent, fd, real)
        return Place(fd, name, b"%b/%b" % (real, name) if real else name)

    def look(self, parent: bytes, name: bytes) -> Place | None:
        """Return the place of `name`, None when its parent directory is not there."""
        if parent in self._known or not parent:
            return self.place(parent, name)
        try:
            fd, real = self._open(parent, make=False)
        except FileNotFoundError:
            return None
        self._remember(parent, fd, real)
        return Place(fd, name, b"%b/%b" % (real, name) if real else name)

    def enter(self, place: Place) -> tuple[int, bytes]:
        """Open a directory, made if missing: its descriptor, the caller's to close, and path."""
        fd, path = self._open(place.path, make=True)
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd), path
        finally:
            os.close(fd)

    def open_directory(self, path: bytes) -> int:
        """Open a directory by the path of its place. Raises OSError."""
        return self._open_below(self.root_fd, path, os.O_RDONLY | os.O_DIRECTORY)

    def delete(self, place: Place) -> None:
        """Delete a directory and what it holds."""
        delete_at(place.fd, os.fsdecode(place.name))

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        if not path:
            return self.root_fd, b""
        found = self._known.get(path)
        if found is None:
            found = self._open(path, make=True)
            self._remember(path, *found)
        return found

    def _remember(self, path: bytes, fd: int, real: bytes) -> None:
        if len(self._known) >= _MOST_OPEN:
            oldest = next(iter(self._known))
            self._stale.append(self._known.pop(oldest)[0])
        self._known[path] = (fd, real)

    def _open(self, path: bytes, *, make: bool) -> tuple[int, bytes]:
        """Open a directory: at once where no symlink is on the way, else step by step."""
        try:
            return self._open_below(self.root_fd, path, _LOOK), path
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
                raise
        return _Resolution(self.root_fd, self._make_missing if make else None).walk(path)


class _Resolution:
    """One path walked part by part, symlinks taken as relative to the tree."""

    def __init__(self, root_fd: int, make_missing: Callable[[Place], None] | None) -> None:
        self._root_fd = root_fd
        self._make_missing = make_missing
        self._fd = os.dup(root_fd)
        self._real: list[bytes] = []
        self._links = 0

    def walk(self, path: bytes) -> tuple[int, bytes]:
        """Return the directory's descriptor and its path without symlinks.

        Raises BadArchive, FileNotFoundError where nothing may be made.
        """
        todo = path.split(b"/")[::-1]
        try:
            while todo:
                part = todo.pop()
                if part == b"..":
                    self._up()
                elif part not in (b"", b"."):
                    todo += self._step(part, path)
        except BaseException:
            os.close(self._fd)
            raise
        return self._fd, b"/".join(self._real)

    def _up(self) -> None:
        """Go to the parent, from the root to the root."""
        del self._real[-1:]
        self._reopen()

    def _reopen(self) -> None:
        path = b"/".join(self._real)
        fd = open_beneath(self._root_fd, path, _LOOK) if path else os.dup(self._root_fd)
        os.close(self._fd)
        self._fd = fd

    def _step(self, part: bytes, path: bytes) -> list[bytes]:
        """Enter `part`; for a symlink return the parts that stand for it, last one first."""
        place = Place(self._fd, part, b"/".join((*self._real, part)))
        status = place.status()
        if status is not None and stat.S_ISLNK(status.st_mode):
            self._links += 1
            if self._links > _MOST_LINKS:
                raise BadArchive(f"unpack {shown(path)}: too many symlinks on the way")
            target = os.readlink(part, dir_fd=self._fd)
            if target.startswith(b"/"):
                self._real.clear()
                self._reopen()
            return target.split(b"/")[::-1]
        if status is None or not stat.S_ISDIR(status.st_mode):
            if self._make_missing is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self._make_missing(place)
        fd = os.open(part, _STEP, dir_fd=self._fd)
        os.close(self._fd)
        self._fd = fd
        self._real.append(part)
        return []
