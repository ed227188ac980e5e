"""An open directory tree that COPY and ADD select files from: the context, or a stage's root.

Owns finding files (paths, patterns, ignore rules, links inside the root) and reading them for
their digests. Refuses to know what is done with a selection.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType

from builder.contenthash import (
    Entry,
    Match,
    Selection,
    Stamp,
    counted_xattrs,
    kind_of,
    stamp_of,
)
from builder.rootpath import is_dir, resolve
from grammar import glob
from grammar.ignorefile import IgnoreRules, PatternList

_CHUNK = 1 << 18


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


Digester = Callable[[str, str, os.stat_result], str]


@dataclass(slots=True)
class Tree:
    """A tree, open through `fd`; a context manager that closes it.

    rules: what the ignore file hides. digester: gives the digest of a file's bytes from its
    path on disk, its path in the tree and its status (a cache may know it).
    """

    fd: int
    rules: IgnoreRules | None = None
    digester: Digester = field(default=lambda path, _name, _status: digest_file(path)[0])

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

    def select(self, pattern: str, exclude: PatternList | None = None) -> Selection:
        """Return what a source of COPY names: one path, or all that its pattern matches.

        Raises PathNotFound when a path without wildcards is not there; a pattern may match none.
        """
        parts = [part for part in os.path.normpath("/" + pattern).split("/") if part]
        if not glob.has_wildcard("/".join(parts)):
            return Selection((self.find(pattern, exclude),))
        found = (self.match(path, exclude) for path in self.expand(parts))
        return Selection(tuple(match for match in found if match is not None))

    def find(self, path: str, exclude: PatternList | None = None) -> Match:
        """Return the match of one path, in which no character is special. Raises PathNotFound."""
        clean = os.path.normpath("/" + path).strip("/")
        match = self.match(clean, exclude)
        if match is None:
            raise PathNotFound(path, self.hiding_rule(clean))
        return match

    def hiding_rule(self, path: str) -> str | None:
        """Return the ignore rule that hides a path which is on disk, as `line 3: *.log`."""
        if self.rules is None or not path:
            return None
        rule = self.rules.deciding_rule(path)
        if rule is None or not os.path.lexists(os.path.join(self.root, resolve(self.root, path))):
            return None
        return f"line {rule[0]}: {rule[1]}"

    def expand(self, parts: list[str]) -> Iterator[str]:
        """Yield the paths that a pattern of components matches, in order of name."""
        paths = [""]
        for part in parts:
            following: list[str] = []
            for path in paths:
                if glob.has_wildcard(part):
                    names = self.names_below(path)
                    following += [join(path, name) for name in names if glob.match(part, name)]
                else:
                    following.append(join(path, part))
            paths = following
        yield from (path for path in paths if self.exists(path))

    def names_below(self, path: str) -> list[str]:
        """Return the sorted names in a directory of the tree; none where it is no directory."""
        real = os.path.join(self.root, resolve(self.root, path))
        return sorted(os.listdir(real)) if is_dir(real) else []

    def exists(self, path: str) -> bool:
        """Tell whether something is at `path`, links before its last component followed."""
        return os.path.lexists(os.path.join(self.root, resolve(self.root, path, follow_last=False)))

    def match(self, path: str, exclude: PatternList | None) -> Match | None:
        """Return the match of one path, None where nothing is there or all of it is hidden."""
        name = os.path.basename(path)
        real = resolve(self.root, path)
        try:
            status = os.lstat(os.path.join(self.root, real))
        except (FileNotFoundError, NotADirectoryError):
            return None
        hidden = self.rules is not None and bool(real) and self.rules.excludes(real)
        if hidden and not stat.S_ISDIR(status.st_mode):
            return None
        entries = list(self.walk(real, "", status, exclude))
        if not entries or (hidden and len(entries) == 1):
            return None
        return Match(real, name, tuple(entries))

    def walk(
        self, base: str, path: str, status: os.stat_result, exclude: PatternList | None
    ) -> Iterator[Entry]:
        """Yield the entry of `base`/`path` and of all below it that is not hidden.

        A hidden directory comes along only when a later rule shows something in it.
        """
        here = join(base, path)
        if not stat.S_ISDIR(status.st_mode):
            yield self.entry(here, path, status)
            return
        own = self.entry(here, path, status)
        hidden = bool(path) and self.hides(here, path, exclude)
        if not hidden:
            yield own
        elif not self.may_show_below(here, exclude):
            return
        held_back = hidden
        for name, child in self.children(here):
            below, inner = join(here, name), join(path, name)
            is_directory = stat.S_ISDIR(child.st_mode)
            if not is_directory and self.hides(below, inner, exclude):
                continue
            for entry in self.walk(base, inner, child, exclude):
                if held_back:
                    yield own
                    held_back = False
                yield entry

    def hides(self, here: str, path: str, exclude: PatternList | None) -> bool:
        """Tell whether the ignore file (paths from the tree's root) or --exclude hides a file."""
        if self.rules is not None and self.rules.excludes(here):
            return True
        return exclude is not None and exclude.excludes(path)

    def may_show_below(self, here: str, exclude: PatternList | None) -> bool:
        """Tell whether a hidden directory has to be looked into for a later `!` rule."""
        shown = self.rules is not None and self.rules.may_reinclude_below(here)
        return shown or exclude is not None

    def children(self, path: str) -> list[tuple[str, os.stat_result]]:
        """Return names and status of what is in a directory, sorted by name's bytes."""
        try:
            with os.scandir(os.path.join(self.root, path)) as found:
                rows = [(item.name, item.stat(follow_symlinks=False)) for item in found]
        except FileNotFoundError as error:
            raise FileChanged(path) from error
        return sorted(rows, key=lambda row: os.fsencode(row[0]))

    def entry(self, here: str, path: str, status: os.stat_result) -> Entry:
        """Return what is known of one file, its bytes digested."""
        disk = os.path.join(self.root, here)
        kind = kind_of(status.st_mode)
        shared = kind == "file" and status.st_nlink > 1
        return Entry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            atime_ns=status.st_atime_ns,
            target=os.readlink(disk) if kind == "symlink" else "",
            rdev=status.st_rdev if kind in ("char", "block") else 0,
            digest=self.digester(disk, here, status) if kind == "file" else "",
            xattrs=counted_xattrs(disk),
            link_group=(status.st_dev, status.st_ino) if shared else None,
            stamp=stamp_of(status),
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
        digest = hashlib.sha256()
        while chunk := os.read(fd, _CHUNK):
            digest.update(chunk)
        if stamp_of(os.fstat(fd)) != stamp_of(before):
            raise FileChanged(path)
        return "sha256:" + digest.hexdigest(), stamp_of(before)
    finally:
        os.close(fd)
