"""What a build looked at in a directory tree, and whether all of it is as it was.

A tree notes each directory that it listed and each file that it selected, with their states. Kept
is a list of names and one digest of all states, so that looking again takes one lstat(2) a file and
no list of stamps in memory. The very same state of a file is the very same file: see `statcache`.
"""

import marshal
import os
from collections.abc import Iterator, Mapping, Sequence

from values.classes import dataclass, field

try:
    from _blake2 import blake2b  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # another Python. hashlib brings OpenSSL, for 2 ms
    from hashlib import blake2b

Stamp = tuple[int, int, int, int, int]
# A directory's path, whether it was listed, and the names that were selected in it, joined by "/".
Group = tuple[str, bool, str]


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what tells one state of a file from another: device, inode, size, mtime, ctime."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


@dataclass(slots=True)
class Looked:
    """What was looked at in one tree, by paths from its root ("" is the root).

    listed: directories whose names were read, in the state just before. files: everything else
    that was selected. ways: the directories on the way to what was named. followed: a symlink was
    followed, so that paths do not say where the files are.
    """

    listed: dict[str, Stamp] = field(default_factory=dict)
    files: dict[str, Stamp] = field(default_factory=dict)
    ways: set[str] = field(default_factory=set)
    followed: bool = False

    def at(self, asked: str, real: str) -> None:
        """Note that a path was looked up, and what it is without links."""
        self.followed = self.followed or asked != real
        parts = real.split("/")[:-1]
        self.ways.update("/".join(parts[: count + 1]) for count in range(len(parts)))

    def will_list(self, path: str, status: os.stat_result) -> None:
        """Note that a directory is about to be listed; a second time it has to be as before."""
        stamp = stamp_of(status)
        if self.listed.setdefault(path, stamp) != stamp:
            self.followed = True

    def stamps(self) -> Iterator[Stamp]:
        """Yield the state of everything that was looked at."""
        yield from self.listed.values()
        yield from self.files.values()

    def groups(self) -> list[Group]:
        """Return what is there to be looked at again."""
        names: dict[str, list[str]] = {path: [] for path in self.listed}
        for path in sorted(self.files):
            parent, _, name = path.rpartition("/")
            names.setdefault(parent, []).append(name)
        return [(path, path in self.listed, "/".join(names[path])) for path in sorted(names)]

    def digest(self, groups: Sequence[Group]) -> str:
        """Return the digest of all states, as `state_of` finds them when nothing has changed."""
        return _digest(
            _states(path, listed, names, self.listed, self.files) for path, listed, names in groups
        )


def _states(
    path: str, listed: bool, names: str, folders: Mapping[str, Stamp], files: Mapping[str, Stamp]
) -> list[Stamp]:
    prefix = f"{path}/" if path else ""
    states = [folders[path]] if listed else []
    return states + [files[prefix + name] for name in (names.split("/") if names else ())]


def state_of(root: str, groups: Sequence[Group], ways: Sequence[str]) -> str | None:
    """Return the digest of the states that `groups` are in now, None when something is gone."""
    try:
        for way in ways:
            if not _is_directory(f"{root}/{way}"):
                return None
        return _digest(_found(root, *group) for group in groups)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_directory(path: str) -> bool:
    return os.lstat(path).st_mode & 0o170000 == 0o040000


def _found(root: str, path: str, listed: bool, names: str) -> list[Stamp]:
    folder = f"{root}/{path}" if path else root
    # Through the slash also where the context itself is named by a link.
    states = [stamp_of(os.lstat(f"{folder}/"))] if listed else []
    lstat = os.lstat
    for name in names.split("/") if names else ():
        status = lstat(f"{folder}/{name}")
        states.append(stamp_of(status))
    return states


def _digest(rows: Iterator[list[Stamp]]) -> str:
    digest = blake2b(digest_size=32)
    for states in rows:
        # A tenth of repr's time. Version 2: later ones tell the same object from an equal one.
        digest.update(marshal.dumps(states, 2))
    return digest.hexdigest()
