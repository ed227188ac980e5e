"""Build contexts as directories: the rules of their ignore files, and selecting files.

Source: Dockerfile reference, ".dockerignore file".
"""

import os
import threading

from builder.contenthash import Match, Selection
from builder.definition import (
    DockerfileText,
    SourceTree,
    ignore_file_of,
    path_inside,
    read_small_file,
)
from builder.errors import BuildError, ContextError
from builder.looked import Looked
from builder.statcache import StatCache
from builder.tree import Tree
from grammar import ignorefile
from grammar.errors import PatternError
from grammar.ignorefile import IgnoreRules
from values.classes import dataclass, field


@dataclass(slots=True)
class LocalContext:
    """An open context; a selection is made once a build and shared by equal sources.

    cache: remembers digests for later builds, None where the directory does not last.
    """

    path: str
    tree: Tree
    ignore_file: str | None
    cache: StatCache | None
    _selections: dict[tuple[str, tuple[str, ...], str | None], Selection] = field(
        default_factory=dict
    )
    _matches: dict[str, Match] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def select(
        self, pattern: str, exclude: tuple[str, ...] = (), include: str | None = None
    ) -> Selection:
        """Return what a source names, its files digested. Raises PathNotFound, FileChanged."""
        with self._lock:
            found = self._selections.get((pattern, exclude, include))
            if found is None:
                found = self.tree.select(pattern, exclude, include)
                self._selections[pattern, exclude, include] = found
            return found

    def match(self, path: str) -> Match:
        """Return what a bind mount shows: a path, no pattern. Raises PathNotFound, FileChanged."""
        with self._lock:
            found = self._matches.get(path)
            if found is None:
                found = self._matches[path] = self.tree.find(path)
            return found

    def forget_selections(self) -> None:
        """Look at the disk again the next time: something changed."""
        with self._lock:
            self._selections.clear()
            self._matches.clear()

    def close(self) -> None:
        """Keep what was digested and close the directory."""
        if self.cache is not None:
            self.cache.save()
        os.close(self.tree.fd)


def read_ignore_rules(
    source: SourceTree, dockerfile: DockerfileText
) -> tuple[str | None, IgnoreRules | None]:
    """Return the path of the ignore file in force and its rules; None where there is none."""
    path = ignore_file_of(source, dockerfile)
    return path, read_rules(path) if path is not None else None


def read_rules(path: str) -> IgnoreRules:
    """Return the rules of an ignore file. Raises BuildError."""
    try:
        return ignorefile.parse(read_small_file(path, "ignore file"))
    except PatternError as error:
        raise BuildError(f"{path}:{error.line}: {error}", hint=error.hint) from error


def open_context(
    source: SourceTree, ignore_file: str | None, rules: IgnoreRules | None, cache_folder: str
) -> LocalContext:
    """Open a context's directory. Raises ContextError."""
    try:
        fd = os.open(source.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ContextError(
            f"open build context {source.shown}: {(error.strerror or str(error)).lower()}"
        ) from error
    if not source.is_local:
        return LocalContext(source.path, Tree(fd), ignore_file, None)
    cache = StatCache(cache_folder, source.path)
    tree = Tree(fd, rules, cache.digest, owned_by_root=True, looked=Looked())
    return LocalContext(source.path, tree, ignore_file, cache)


def open_named(path: str, name: str, cache_folder: str) -> LocalContext:
    """Open a named context that is a directory, with the ignore file at its root.

    Raises ContextError, BuildError.
    """
    if not os.path.isdir(path):
        cause = "not a directory" if os.path.exists(path) else "no such directory"
        raise ContextError(f"build context {name}: {path}: {cause}")
    ignore_file = path_inside(path, ".dockerignore")
    rules = read_rules(ignore_file) if os.path.exists(ignore_file) else None
    source = SourceTree(path, os.path.abspath(path))
    return open_context(source, ignore_file if rules else None, rules, cache_folder)
