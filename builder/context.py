"""The local build context: a directory with a Dockerfile and perhaps an ignore file.

Source: Dockerfile reference, ".dockerignore file".
"""

import os
import threading
from dataclasses import dataclass, field

from builder.contenthash import Match, Selection
from builder.errors import BuildError, ContextError, NotSupportedYet
from builder.request import BuildRequest
from builder.statcache import StatCache
from builder.tree import Tree
from grammar import ignorefile
from grammar.errors import GrammarError
from grammar.ignorefile import IgnoreRules

_MAX_DOCKERFILE_BYTES = 64 << 20


@dataclass(slots=True)
class LocalContext:
    """An open context; a selection is made once a build and shared by equal sources."""

    path: str
    tree: Tree
    ignore_file: str | None
    cache: StatCache
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
        self.cache.save()
        os.close(self.tree.fd)


@dataclass(frozen=True, slots=True)
class DockerfileText:
    """A Dockerfile as read: what to call it, its bytes, where it lies (None for stdin)."""

    name: str
    data: bytes
    path: str | None


def read_dockerfile(request: BuildRequest) -> DockerfileText:
    """Return the Dockerfile that a request names. Raises ContextError."""
    check_context(request.context)
    if request.dockerfile == "-":
        return DockerfileText("Dockerfile", request.dockerfile_text or b"", None)
    if request.dockerfile is not None:
        path = request.dockerfile
        inside = os.path.join(request.context, path)
        if not os.path.exists(path) and os.path.exists(inside):
            path = inside
    else:
        path = os.path.join(request.context, "Dockerfile")
        lower = os.path.join(request.context, "dockerfile")
        if not os.path.exists(path) and os.path.exists(lower):
            path = lower
    return DockerfileText(os.path.basename(path), read_small_file(path, "Dockerfile"), path)


def check_context(path: str) -> None:
    """Raise for a context that is no directory."""
    if path == "-":
        raise NotSupportedYet("a build context on standard input")
    if path.startswith(("http://", "https://", "git://", "ssh://", "git@")):
        raise NotSupportedYet(f"a remote build context ({path})")
    if not os.path.isdir(path):
        cause = "not a directory" if os.path.exists(path) else "no such directory"
        raise ContextError(
            f"build context {path}: {cause}", hint="give the directory that holds the files"
        )


def read_small_file(path: str, what: str) -> bytes:
    """Return the bytes of a regular file of at most 64 MiB. Raises ContextError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read(_MAX_DOCKERFILE_BYTES + 1)
    except OSError as error:
        hint = "give another with -f FILE" if isinstance(error, FileNotFoundError) else None
        cause = (error.strerror or str(error)).lower()
        raise ContextError(f"read {what} {path}: {cause}", hint=hint) from error
    if len(data) > _MAX_DOCKERFILE_BYTES:
        raise ContextError(f"read {what} {path}: larger than 64 MiB")
    return data


def read_ignore_rules(
    request: BuildRequest, dockerfile: DockerfileText
) -> tuple[str | None, IgnoreRules | None]:
    """Return the path of the ignore file in force and its rules; None where there is none.

    `<Dockerfile>.dockerignore` beside the Dockerfile replaces the context's own.
    """
    candidates = [os.path.join(request.context, ".dockerignore")]
    if dockerfile.path is not None:
        candidates.insert(0, f"{dockerfile.path}.dockerignore")
    for path in candidates:
        if not os.path.exists(path):
            continue
        try:
            return path, ignorefile.parse(read_small_file(path, "ignore file"))
        except GrammarError as error:
            raise BuildError(f"{path}: {error}", hint=error.hint) from error
    return None, None


def open_context(
    request: BuildRequest, ignore_file: str | None, rules: IgnoreRules | None, cache_folder: str
) -> LocalContext:
    """Open the context directory. Raises ContextError."""
    try:
        fd = os.open(request.context, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ContextError(
            f"open build context {request.context}: {(error.strerror or str(error)).lower()}"
        ) from error
    cache = StatCache(cache_folder, request.context)
    tree = Tree(fd, rules, cache.digest, owned_by_root=True)
    return LocalContext(request.context, tree, ignore_file, cache)
