"""What files are, for a cache key: content digests of selected trees.

Owns which properties of a file count (BuildKit's: name, kind, mode, owner, size, link target,
device number, xattrs, bytes; never times) and the digest over them. Finding the files is `tree`'s.
"""

import json
import os
import stat
from collections.abc import Iterator
from hashlib import sha256

from builder.looked import Stamp
from store.digest import Digest, digest_of
from store.ownership import is_note
from values.classes import dataclass

_PIECE = 1000  # files
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a selected tree.

    path: relative to the selected root, "" for the root itself. mode: permission bits, octal
    07777. digest: of a regular file's bytes, else empty. link_group: device and inode for a
    regular file that has other names. stamp: the state in which it was digested.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    atime_ns: int
    target: str
    rdev: int
    digest: str
    xattrs: tuple[tuple[str, bytes], ...]
    link_group: tuple[int, int] | None
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Match:
    """One path that a source of COPY selects.

    path: where it is in its tree, links followed, relative to the tree's root ("" is the root).
    name: what it is called at a destination that is a directory.
    entries: the root first when it is included; parents come before what they hold.
    """

    path: str
    name: str
    entries: tuple[Entry, ...]

    @property
    def is_dir(self) -> bool:
        """Whether a directory was selected, whose contents are what is copied."""
        return self.entries[0].kind == "dir"


@dataclass(frozen=True, slots=True)
class Selection:
    """All that one source of COPY selects, in order of path."""

    matches: tuple[Match, ...]

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield each file's path in its tree with its state, for `why`."""
        for match in self.matches:
            yield from states(match)

    def digest(self, *, with_owner: bool) -> Digest:
        """Return the content digest: equal for equal files under equal names, times left out.

        with_owner: whether owners count: they do not where the copy replaces them.
        """
        # The JSON of a list with a name and a list of rows for each match, a piece at a time: all
        # of it at once would be most of the memory that a build with many files takes.
        digest = sha256(b"[")
        for number, match in enumerate(self.matches):
            name = match.name if not match.is_dir else ""
            digest.update(f"{',' if number else ''}[{_json(name)},[".encode())
            for start in range(0, len(match.entries), _PIECE):
                rows = [row(entry, with_owner) for entry in match.entries[start : start + _PIECE]]
                digest.update((("," if start else "") + _json(rows)[1:-1]).encode())
            digest.update(b"]]")
        digest.update(b"]")
        return Digest(f"sha256:{digest.hexdigest()}")


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def states(match: Match) -> Iterator[tuple[str, str]]:
    """Yield the path of each file in its tree with what is told of it when it changes.

    `sha256:… 644` for a file, `-> target` for a symlink, an owner other than root after the mode.
    """
    base = f"{match.path}/" if match.path else ""
    for entry in match.entries:
        if entry.kind == "symlink":
            state = f"-> {entry.target}"
        elif entry.kind == "file":
            owner = f" {entry.uid}:{entry.gid}" if entry.uid or entry.gid else ""
            state = f"{entry.digest} {entry.mode:04o}{owner}"
        else:
            continue
        yield (base + entry.path).rstrip("/"), state


def tree_digest(match: Match, *, with_owner: bool) -> Digest:
    """Return the content digest of a file or directory that is shown as it is, as a bind mount.

    Its own attributes count and its name does not; else as Selection.digest.
    """
    rows = [attributes(entry, with_owner) for entry in match.entries]
    return digest_of(json.dumps(rows, separators=(",", ":")).encode())


def row(entry: Entry, with_owner: bool) -> list[object]:
    """Return the properties of a copied file that count, as JSON values in a fixed order.

    A selected directory's own attributes do not: COPY takes its contents.
    """
    if entry.kind == "dir" and not entry.path:
        return ["dir"]
    return attributes(entry, with_owner)


def attributes(entry: Entry, with_owner: bool) -> list[object]:
    """Return the properties of a file that count, as JSON values in a fixed order.

    Link groups count only through their bytes: whether two equal files share an inode changes the
    layer, not a key.
    """
    return [
        entry.path,
        entry.kind,
        entry.mode if entry.kind != "symlink" else 0,
        [entry.uid, entry.gid] if with_owner else 0,
        entry.target,
        entry.rdev,
        entry.digest,
        [[name, value.hex()] for name, value in entry.xattrs],
    ]


def kind_of(mode: int) -> str:
    """Return the kind of a file from st_mode."""
    return _KINDS.get(stat.S_IFMT(mode), "other")


def counted_xattrs(path: str) -> tuple[tuple[str, bytes], ...]:
    """Return the xattrs that count, sorted: none of security.* and system.*, but capabilities.

    Source: BuildKit's content hash. trusted.* belongs to the disk (overlayfs), not to the file.
    """
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:  # the file system has none
        return ()
    if not names:
        return ()
    kept = [
        name
        for name in names
        if name == "security.capability"
        or not (name.startswith(("security.", "system.", "trusted.", "overlay.")) or is_note(name))
    ]
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(kept))
