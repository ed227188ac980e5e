"""Build contexts as directories: finding the Dockerfile and the ignore file, selecting files.

Source: Dockerfile reference, ".dockerignore file".
"""

import os
import threading

from builder.contenthash import Match, Selection
from builder.errors import BuildError, ContextError
from builder.request import BuildRequest
from builder.rootpath import resolve
from builder.statcache import StatCache
from builder.tree import Tree
from grammar import ignorefile
from grammar.errors import GrammarError
from grammar.ignorefile import IgnoreRules
from values.classes import dataclass, field

_MAX_DOCKERFILE_BYTES = 64 << 20


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


@dataclass(frozen=True, slots=True)
class SourceTree:
    """The main context of a build, see `sourcetree.opened_source`.

    path: its directory. shown: what records call it. is_local: it is the caller's own, so that
    ignore files count, all files count as root's, and digests are remembered.
    dockerfile: the Dockerfile, where it is not a file of this machine.
    """

    path: str
    shown: str
    is_local: bool = True
    dockerfile: bytes | None = None


@dataclass(frozen=True, slots=True)
class DockerfileText:
    """A Dockerfile as read: what to call it, its bytes, where it lies (None for stdin)."""

    name: str
    data: bytes
    path: str | None


def read_dockerfile(request: BuildRequest, source: SourceTree) -> DockerfileText:
    """Return the Dockerfile that a request names. Raises ContextError."""
    if request.dockerfile == "-":
        return DockerfileText("Dockerfile", request.dockerfile_text or b"", None)
    if source.dockerfile is not None:
        return DockerfileText("Dockerfile", source.dockerfile, None)
    named = request.dockerfile
    if named is not None and (source.is_local or os.path.isabs(named)):
        inside = os.path.join(source.path, named)
        path = inside if not os.path.exists(named) and os.path.exists(inside) else named
    else:
        path = _path_inside(source, named or "Dockerfile")
        if named is None and not os.path.exists(path):
            lower = _path_inside(source, "dockerfile")
            path = lower if os.path.exists(lower) else path
    name = os.path.basename(named or path)
    shown = path if source.is_local else f"{named or 'Dockerfile'} of {source.shown}"
    return DockerfileText(name, read_small_file(path, "Dockerfile", shown), path)


def _path_inside(source: SourceTree, name: str) -> str:
    """Return where a file of the context is; no link leads out of one that is not the caller's."""
    if source.is_local:
        return os.path.join(source.path, name)
    return os.path.join(source.path, resolve(source.path, name))


def read_small_file(path: str, what: str, shown: str | None = None) -> bytes:
    """Return the bytes of a regular file of at most 64 MiB. Raises ContextError.

    shown: what errors call it, the path by default.
    """
    shown = shown or path
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read(_MAX_DOCKERFILE_BYTES + 1)
    except OSError as error:
        hint = "give another with -f FILE" if isinstance(error, FileNotFoundError) else None
        cause = (error.strerror or str(error)).lower()
        raise ContextError(f"read {what} {shown}: {cause}", hint=hint) from error
    if len(data) > _MAX_DOCKERFILE_BYTES:
        raise ContextError(f"read {what} {shown}: larger than 64 MiB")
    return data


def read_ignore_rules(
    source: SourceTree, dockerfile: DockerfileText
) -> tuple[str | None, IgnoreRules | None]:
    """Return the path of the ignore file in force and its rules; None where there is none.

    `<Dockerfile>.dockerignore` beside the Dockerfile replaces the context's own. Only the
    caller's own files can be ignored: what comes from elsewhere was put together on purpose.
    """
    if not source.is_local:
        return None, None
    candidates = [os.path.join(source.path, ".dockerignore")]
    if dockerfile.path is not None:
        candidates.insert(0, f"{dockerfile.path}.dockerignore")
    for path in candidates:
        if os.path.exists(path):
            return path, read_rules(path)
    return None, None


def read_rules(path: str) -> IgnoreRules:
    """Return the rules of an ignore file. Raises BuildError."""
    try:
        return ignorefile.parse(read_small_file(path, "ignore file"))
    except GrammarError as error:
        raise BuildError(f"{path}: {error}", hint=error.hint) from error


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
    tree = Tree(fd, rules, cache.digest, owned_by_root=True)
    return LocalContext(source.path, tree, ignore_file, cache)


def open_named(path: str, name: str, cache_folder: str) -> LocalContext:
    """Open a named context that is a directory, with the ignore file at its root.

    Raises ContextError, BuildError.
    """
    if not os.path.isdir(path):
        cause = "not a directory" if os.path.exists(path) else "no such directory"
        raise ContextError(f"build context {name}: {path}: {cause}")
    ignore_file = os.path.join(path, ".dockerignore")
    rules = read_rules(ignore_file) if os.path.exists(ignore_file) else None
    source = SourceTree(path, os.path.abspath(path))
    return open_context(source, ignore_file if rules else None, rules, cache_folder)
