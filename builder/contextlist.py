"""What is in a build context, what put it there or left it out, and which instructions use it.

Reads no file's bytes, asks no registry and runs nothing: of a base image that the store lacks
nothing is known but its name.
"""

import os
import stat
from collections.abc import Container, Iterable, Iterator

from builder.contenthash import Match, kind_of
from builder.definition import SourceTree
from builder.errors import BuildError, InstructionError, Place
from builder.lint.engine import Linter, options_of
from builder.namedcontexts import NamedContext
from builder.ops.sources import missing_source
from builder.planning import Planner
from builder.ready import Definition, check_platform, read_definition
from builder.request import BuildRequest
from builder.runmounts import BindMount
from builder.secrets import Secrets
from builder.site import Progress
from builder.sourcetree import opened_source
from builder.tree import PathNotFound, Tree, join
from builder.vertex import ContextPath, CopyOp, RunOp, Vertex
from grammar import tables
from grammar.errors import PatternError
from grammar.ignorefile import IgnoreRules
from runtime.cancel import Cancel
from store import platforms
from store.digest import Digest
from store.errors import NotFound
from store.images import Image
from store.oci import ImageConfig
from store.reference import Reference
from store.root import Store
from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """The line of an ignore file that decides on a path. pattern: with its `!`."""

    file: str
    line: int
    pattern: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.pattern}"


@dataclass(frozen=True, slots=True)
class Use:
    """An instruction that takes a file of the context: the Dockerfile's name, line and text."""

    dockerfile: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.dockerfile}:{self.line}"


@dataclass(frozen=True, slots=True)
class ContextFile:
    """A file of the context's folder; a directory only where it is empty or left out as a whole.

    kind: file, dir, symlink, …. size_bytes: of a directory what all its files have; files: how
    many those are. rule: None where no line of the ignore file is about it.
    """

    path: str
    kind: str
    size_bytes: int
    files: int
    is_included: bool
    rule: Rule | None
    uses: tuple[Use, ...] = ()


@dataclass(frozen=True, slots=True)
class ContextListing:
    """The files of a context in order of path, and why instructions would not find theirs."""

    files: tuple[ContextFile, ...]
    ignore_file: str | None
    problems: tuple[BuildError, ...]


def list_context(store: Store, request: BuildRequest) -> ContextListing:
    """Return what is in the context of a build. Raises BuildError and GrammarError, as it would."""
    silent = Progress(lambda _event: None)
    secrets = Secrets(request.secrets)
    with store.lease(), opened_source(store, request, silent, Cancel(), secrets) as source:
        definition = read_definition(store, request, source, silent)
        problems: list[BuildError] = []
        with Tree(_opened(source), definition.rules, lambda *_: "") as tree:
            vertices = _vertices(store, request, definition, problems)
            uses = _uses(tree, vertices, definition.ignore_file, problems)
            shown = _shown(definition)
            found = tuple(_Walk(tree.root, definition.rules, shown, uses).files())
    return ContextListing(found, definition.ignore_file, tuple(problems))


def _opened(source: SourceTree) -> int:
    return os.open(source.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _shown(definition: Definition) -> str:
    """Return what to call the ignore file: by its path in the context, where it is there."""
    path, top = definition.ignore_file or "", os.path.realpath(definition.source.path)
    inside = os.path.relpath(os.path.realpath(path), top)
    return path if not path or inside.startswith("../") else inside


@dataclass(frozen=True, slots=True)
class _LocalBases:
    """Images of the store; others are taken for images without any setting."""

    store: Store

    def image(self, reference: Reference, _place: Place, platform: str) -> Image:
        wanted = platforms.parse(platform)
        try:
            return self.store.images.find(str(reference))
        except NotFound:
            return Image(Digest(""), ImageConfig(wanted.architecture, wanted.os))

    def layout(self, _context: NamedContext, platform: str) -> Image:
        wanted = platforms.parse(platform)
        return Image(Digest(""), ImageConfig(wanted.architecture, wanted.os))


def _vertices(
    store: Store, request: BuildRequest, definition: Definition, problems: list[BuildError]
) -> tuple[Vertex, ...]:
    """Lower the target, and without one that is named every other stage that can be."""
    stages = definition.stages
    platform = check_platform(request)
    linter = Linter(stages, options_of(stages, request), lambda *_: None)
    with tables.kept_in(definition.trees):
        planner = Planner(_LocalBases(store), request, stages, platform, linter)
        planner.stage(stages.target(request.target))
        for stage in () if request.target else stages.stages:
            try:
                planner.stage(stage)
            except BuildError as error:
                problems.append(error)
    return tuple(planner.plan.vertices.values())


def _uses(
    tree: Tree, vertices: Iterable[Vertex], ignore_file: str | None, problems: list[BuildError]
) -> dict[str, tuple[Use, ...]]:
    """Return which instructions select which paths, in the order of their lines."""
    known: dict[object, list[str]] = {}
    found: dict[str, dict[Use, None]] = {}
    for vertex in sorted(vertices, key=lambda each: each.place.first_line):
        use = Use(vertex.place.dockerfile, vertex.place.first_line, vertex.title)
        for key in _selected_by(vertex):
            try:
                if key not in known:
                    known[key] = _paths(tree, key)
            except PathNotFound as error:
                problems.append(missing_source(error, vertex, ignore_file))
            except PatternError as error:
                problems.append(InstructionError(vertex.place, str(error), hint=error.hint))
            for path in known.get(key, ()):
                found.setdefault(path, {})[use] = None
    return {path: tuple(uses) for path, uses in found.items()}


@dataclass(frozen=True, slots=True)
class _Selector:
    """What an instruction names. is_plain: no character of `path` is special."""

    path: str
    exclude: tuple[str, ...] = ()
    include: str | None = None
    is_plain: bool = False


def _selected_by(vertex: Vertex) -> Iterator[_Selector]:
    op = vertex.op
    if isinstance(op, CopyOp):
        for source in op.sources:
            if isinstance(source, ContextPath) and not source.context:
                yield _Selector(source.path, op.exclude, source.include)
    elif isinstance(op, RunOp):
        for mount in op.mounts:
            if isinstance(mount, BindMount) and mount.input is None:
                yield _Selector(mount.path, is_plain=True)


def _paths(tree: Tree, selector: _Selector) -> list[str]:
    matches: Iterable[Match]
    # The link that leads to what is meant is needed as well.
    named = os.path.normpath("/" + selector.path).strip("/")
    if selector.is_plain:
        matches = (tree.find(selector.path),)
    else:
        matches = tree.select(selector.path, selector.exclude, selector.include).matches
    found = [join(match.path, entry.path) for match in matches for entry in match.entries]
    return [named, *found]


def _parents(path: str) -> list[str]:
    """Return the directories that `path` is in, the topmost first, the root left out."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


@dataclass(frozen=True, slots=True)
class _Walk:
    """One walk through a context's folder. ignore_file: as rules name it."""

    root: str
    rules: IgnoreRules | None
    ignore_file: str
    uses: dict[str, tuple[Use, ...]]

    def files(self) -> Iterator[ContextFile]:
        """Yield what is there, in order of path; of what is left out as a whole the top."""
        rows = list(self.rows())
        shown = {above for row in rows if row.is_included for above in _parents(row.path)}
        tops: dict[str, list[ContextFile]] = {}
        for row in rows:
            top = row.path if row.is_included else self._top(row.path, shown)
            tops.setdefault(top, []).append(row)
        for path, inside in tops.items():
            if len(inside) == 1 and inside[0].path == path:
                yield inside[0]
            else:
                status = os.lstat(os.path.join(self.root, path))
                files, size = sum(r.files for r in inside), sum(r.size_bytes for r in inside)
                yield self._row(path, status, files, size, is_out=True)

    def _top(self, path: str, shown: Container[str]) -> str:
        """Return the highest directory with `path` in it that is left out, else `path`."""
        rules = self.rules
        outside = (above for above in _parents(path) if above not in shown)
        return next((above for above in outside if rules and rules.excludes(above)), path)

    def rows(self) -> Iterator[ContextFile]:
        """Yield what is there, in order of path."""
        todo = self._below("")
        while todo:
            path, status = todo.pop()
            is_out = self.rules is not None and self.rules.excludes(path)
            if not stat.S_ISDIR(status.st_mode):
                yield self._row(path, status, 1, status.st_size, is_out=is_out)
            elif is_out and self.rules is not None and not self.rules.may_reinclude_below(path):
                sizes = list(self._sizes(path))
                yield self._row(path, status, len(sizes), sum(sizes), is_out=True)
            else:
                below = self._below(path)
                if not below:
                    yield self._row(path, status, 0, 0, is_out=is_out)
                todo += below

    def _row(
        self, path: str, status: os.stat_result, files: int, size_bytes: int, *, is_out: bool
    ) -> ContextFile:
        decides = self.rules.deciding_rule(path) if self.rules is not None else None
        rule = None if decides is None else Rule(self.ignore_file, *decides)
        kind, uses = kind_of(status.st_mode), self.uses.get(path, ())
        return ContextFile(path, kind, size_bytes, files, not is_out, rule, uses)

    def _sizes(self, path: str) -> Iterator[int]:
        todo = self._below(path)
        while todo:
            inner, status = todo.pop()
            if stat.S_ISDIR(status.st_mode):
                todo += self._below(inner)
            else:
                yield status.st_size

    def _below(self, path: str) -> list[tuple[str, os.stat_result]]:
        """Return paths and status of what is in a directory, the last in order first."""
        with os.scandir(os.path.join(self.root, path)) as entries:
            found = [(join(path, e.name), e.stat(follow_symlinks=False)) for e in entries]
        return sorted(found, key=lambda item: os.fsencode(item[0]), reverse=True)
