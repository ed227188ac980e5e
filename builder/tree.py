"""An open directory tree that COPY and ADD select files from: the context, or a stage's root.

Owns finding files (paths, patterns, ignore rules, links inside the root) and reading them for
their digests. Refuses to know what is done with a selection.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from builder.contenthash import Entry, Match, Selection, counted_xattrs, kind_of
from builder.looked import Looked, Stamp, stamp_of
from builder.rootpath import Follow, is_dir, resolve
from grammar import glob
from grammar.ignorefile import IgnoreRules, PatternList
from store.ownership import mode_of, owner_of
from values.classes import dataclass, field

_CHUNK = 1 << 18
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PathNotFound(Exception):
    """A path that was named, without a wildcard, is not in the tree. `rule`: what hides it."""

    def __init__(self, path: str, rule: str | None = None):
        super().__init__(path)
        self.path = path
        self.rule = rule


class FileChanged(Exception):
    """A file changed while it was being read."""

    def __init__(self, path: str):
        super().__init__(path)
        self.path = path


Digester = Callable[[str, str, Stamp], str]


class Wanted:
    """Which files of a selected tree are meant, by paths from its root.

    exclude: what --exclude leaves out. include: with --parents, what alone is meant; None is all.
    """

    def __init__(self, exclude: Sequence[str] = (), include: str | None = None) -> None:
        self._exclude = PatternList(exclude) if exclude else None
        self._include = PatternList([include]) if include is not None else None
        # What could be taken back in below a directory is what could be included there.
        self._reach = PatternList([f"!{include}"]) if include is not None else None

    def has(self, path: str) -> bool:
        """Tell whether a path is meant."""
        if self._include is not None and not self._include.excludes(path):
            return False
        return self._exclude is None or not self._exclude.excludes(path)

    def may_have_below(self, path: str) -> bool:
        """Tell whether something below a directory that is not meant itself may be."""
        if self._include is not None and self._reach is not None:
            reached = self._include.excludes(path) or self._reach.may_reinclude_below(path)
            if not reached:
                return False
        if self._exclude is None or not self._exclude.excludes(path):
            return True
        return self._exclude.may_reinclude_below(path)


EVERYTHING = Wanted()


@dataclass(slots=True)
class Tree:
    """A tree, open through `fd`; a context manager that closes it.

    rules: what the ignore file hides. digester: gives the digest of a file's bytes from its
    path on disk, its path in the tree and its state (a cache may know it).
    owned_by_root: all files count as root's, whoever owns them on disk: a person's own files do.
    looked: notes what is looked at, where someone wants to know.
    follow: finds where a path with links leads in the tree.
    """

    fd: int
    rules: IgnoreRules | None = None
    digester: Digester = field(default=lambda path, _name, _stamp: digest_file(path)[0])
    owned_by_root: bool = False
    looked: Looked | None = None
    follow: Follow = resolve

    def __enter__(self) -> "Tree":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self.fd)

    @property
    def root(self) -> str:
        """A path of the tree's root that other threads can use too."""
        return f"/proc/self/fd/{self.fd}"

    def select(
        self, pattern: str, exclude: Sequence[str] = (), include: str | None = None
    ) -> Selection:
        """Return what a source of COPY names: one path, or all that its pattern matches.

        exclude, include: see `Wanted`. Raises PathNotFound when a path without wildcards is not
        there, also one named by pattern and `include` together; a pattern may match none.
        """
        wanted = Wanted(exclude, include) if exclude or include is not None else EVERYTHING
        parts = [part for part in os.path.normpath("/" + pattern).split("/") if part]
        path = "/".join(parts)
        if glob.has_wildcard(path):
            found = (self.match(path, wanted) for path in self.expand(parts))
            return Selection(tuple(match for match in found if match is not None))
        match = self.find(pattern, wanted)
        if include is not None and len(match.entries) == 1 and not glob.has_wildcard(include):
            self.require(join(path, include))
        return Selection((match,))

    def require(self, path: str) -> None:
        """Raise PathNotFound unless something that is not hidden is at `path`."""
        real = self.follow(self.root, path)
        hidden = self.rules is not None and bool(real) and self.rules.excludes(real)
        if hidden or not os.path.lexists(os.path.join(self.root, real)):
            raise PathNotFound(path, self.hiding_rule(path))

    def require_below(self, path: str) -> None:
        """Raise PathNotFound unless `path` is there, with something in it that is not hidden."""
        if self.rules is None or not self.rules.may_reinclude_below(self.follow(self.root, path)):
            self.require(path)

    def find(self, path: str, wanted: Wanted = EVERYTHING) -> Match:
        """Return the match of one path, in which no character is special. Raises PathNotFound."""
        clean = os.path.normpath("/" + path).strip("/")
        match = self.match(clean, wanted)
        if match is None:
            raise PathNotFound(path, self.hiding_rule(clean))
        return match

    def hiding_rule(self, path: str) -> str | None:
        """Return the ignore rule that hides a path which is on disk, as `line 3: *.log`."""
        if self.rules is None or not path:
            return None
        rule = self.rules.deciding_rule(path)
        if rule is None or not os.path.lexists(
            os.path.join(self.root, self.follow(self.root, path))
        ):
            return None
        return f"line {rule[0]}: {rule[1]}"

    def expand(self, parts: list[str]) -> Iterator[str]:
        """Yield the paths that a pattern of components matches, in order of name.

        Links are followed up to the first wildcard only, as BuildKit's walk does it. Raises
        PathNotFound when the directory that the pattern begins with is not there.
        """
        first = next(number for number, part in enumerate(parts) if glob.has_wildcard(part))
        self.require_below("/".join(parts[:first]))
        paths = [self.follow(self.root, "/".join(parts[:first]))]
        for part in parts[first:]:
            following: list[str] = []
            for path in paths:
                names = self.names_below(path)
                following += [join(path, name) for name in names if glob.match(part, name)]
            paths = following
        yield from paths

    def names_below(self, path: str) -> list[str]:
        """Return the names in a directory of the tree, sorted; none where it is no directory."""
        real = os.path.join(self.root, path)
        if not is_dir(real):
            return []
        self.will_list(path)
        return sorted(os.listdir(real), key=os.fsencode)

    def will_list(self, path: str) -> None:
        """Note a directory's state just before it is listed."""
        if self.looked is not None:
            self.looked.will_list(path, os.stat(f"{self.root}/{path}"))

    def match(self, path: str, wanted: Wanted = EVERYTHING) -> Match | None:
        """Return the match of one path, None where nothing is there or all of it is hidden."""
        name = os.path.basename(path)
        real = self.follow(self.root, path)
        if self.looked is not None:
            self.looked.at(path, real)
        try:
            status = os.lstat(os.path.join(self.root, real))
        except (FileNotFoundError, NotADirectoryError):
            return None
        hidden = self.rules is not None and bool(real) and self.rules.excludes(real)
        if hidden and not stat.S_ISDIR(status.st_mode):
            return None
        entries = self.walk(real, status, wanted)
        if hidden and len(entries) == 1:
            return None
        return Match(real, name, tuple(entries))

    def walk(self, base: str, status: os.stat_result, wanted: Wanted) -> list[Entry]:
        """Return the entry of `base` and of all below it that is meant, parents first.

        A directory that is not meant comes along when something in it is. Without recursion: a
        tree may be deeper than Python's stack.
        """
        entries = [self.entry(base, "", status)]
        waiting: list[tuple[str, os.stat_result]] = []
        todo = self.children(base, "") if stat.S_ISDIR(status.st_mode) else []
        while todo:
            path, status = todo.pop()
            while waiting and not path.startswith(f"{waiting[-1][0]}/"):
                waiting.pop()
            here = join(base, path)
            shown = wanted is EVERYTHING or wanted.has(path)
            shown = shown and not (self.rules and self.rules.excludes(here))
            if shown:
                entries += [self.entry(join(base, up), up, state) for up, state in waiting]
                waiting.clear()
                entries.append(self.entry(here, path, status))
            if stat.S_ISDIR(status.st_mode) and (shown or self.may_show_below(here, path, wanted)):
                if not shown:
                    waiting.append((path, status))
                todo += self.children(base, path)
        return entries

    def may_show_below(self, here: str, path: str, wanted: Wanted) -> bool:
        """Tell whether a directory that is not meant has to be looked into nevertheless."""
        hidden = self.rules is not None and self.rules.excludes(here)
        if hidden and self.rules is not None and not self.rules.may_reinclude_below(here):
            return False
        return wanted.may_have_below(path)

    def children(self, base: str, path: str) -> list[tuple[str, os.stat_result]]:
        """Return paths and status of what is in a directory, the last name's bytes first."""
        try:
            self.will_list(join(base, path))
            # Through a descriptor: by path each name would be looked up from the root.
            fd = os.open(os.path.join(self.root, join(base, path)), _DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise FileChanged(path) from error
            raise
        try:
            with os.scandir(fd) as found:
                rows = [(item.name, item.stat(follow_symlinks=False)) for item in found]
        except FileNotFoundError as error:
            raise FileChanged(path) from error
        finally:
            os.close(fd)
        rows.sort(key=lambda row: os.fsencode(row[0]), reverse=True)
        return [(join(path, name), status) for name, status in rows]

    def entry(self, here: str, path: str, status: os.stat_result) -> Entry:
        """Return what is known of one file, its bytes digested.

        here: its path in the tree. path: the same from the selected root.
        """
        disk = f"{self.root}/{here}"
        kind = kind_of(status.st_mode)
        shared = kind == "file" and status.st_nlink > 1
        stamp = stamp_of(status)
        if self.looked is not None and kind != "dir":
            self.looked.files[here] = stamp
        uid, gid = (0, 0) if self.owned_by_root else owner_of(disk, status)
        return Entry(
            path=path,
            kind=kind,
            mode=mode_of(disk, status),
            uid=uid,
            gid=gid,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            atime_ns=status.st_atime_ns,
            target=os.readlink(disk) if kind == "symlink" else "",
            rdev=status.st_rdev if kind in ("char", "block") else 0,
            digest=self.digester(disk, here, stamp) if kind == "file" else "",
            xattrs=counted_xattrs(disk),
            link_group=(status.st_dev, status.st_ino) if shared else None,
            stamp=stamp,
        )


def join(base: str, name: str) -> str:
    """Join two relative paths of which either may be empty."""
    return f"{base}/{name}" if base and name else base or name


def digest_file(path: str) -> tuple[str, Stamp]:
    """Return the digest of a regular file's bytes and the state that it was read in.

    Raises FileChanged when it changed meanwhile or is no regular file any more.
    """
    try:
        # O_NONBLOCK: a fifo put in the file's place must not hang us.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            raise FileChanged(path) from error
        raise
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise FileChanged(path)
        digest = digest_of_open_file(fd)
        if stamp_of(os.fstat(fd)) != stamp_of(before):
            raise FileChanged(path)
        return digest, stamp_of(before)
    finally:
        os.close(fd)


def digest_of_open_file(fd: int) -> str:
    """Return the digest of what is left to be read of a file."""
    digest = hashlib.sha256()
    while chunk := os.read(fd, _CHUNK):
        digest.update(chunk)
    return "sha256:" + digest.hexdigest()
