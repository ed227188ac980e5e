"""Before the first step: from a request to a plan, and to the site that its steps share.

What a build and a forecast have in common. Solves nothing.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.absent import Absent
from builder.among import Among
from builder.bases import Bases
from builder.context import read_ignore_rules
from builder.definition import DockerfileText, SourceTree, read_dockerfile
from builder.errors import BuildError
from builder.events import BuildWarning
from builder.lint.engine import Linter, options_of
from builder.lint.rules import Rule
from builder.planning import BuildPlan, plan_build
from builder.request import BuildRequest
from builder.schedule import default_jobs
from builder.shared import Shared, new_shared
from builder.site import Progress, Site
from builder.stages import StageList, stages_of
from builder.supplies import Supplies
from builder.treecache import Parse, parse_cached
from builder.vertex import Vertex, VertexID
from grammar import tables
from grammar.errors import GrammarError
from grammar.ignorefile import IgnoreRules
from runtime.cancel import Cancel
from store import platforms
from store.root import Store
from values.classes import dataclass

if TYPE_CHECKING:
    from builder.gitcheckout import Commit
    from builder.gitref import GitRef
    from builder.locked import Locked
    from builder.remotecache.imports import Imports
    from builder.secretgate import SecretGate


@dataclass(frozen=True, slots=True)
class Definition:
    """What a build is defined by: the Dockerfile, cut into stages, and the ignore file.

    trees: the folder of parsed files.
    """

    source: SourceTree
    dockerfile: DockerfileText
    stages: StageList
    ignore_file: str | None
    rules: IgnoreRules | None
    trees: str

    @property
    def journal_name(self) -> str:
        """What the journal calls the Dockerfile: its full path where it has one."""
        if not self.source.is_local:
            return self.dockerfile.name or "-"
        return os.path.abspath(self.dockerfile.path) if self.dockerfile.path else "-"


def read_definition(
    store: Store, request: BuildRequest, source: SourceTree, progress: Progress
) -> Definition:
    """Read and parse the Dockerfile, and read the ignore file, as steps of their own.

    Raises GrammarError with line and caret, BuildError.
    """
    trees = os.path.join(store.root, "trees")
    os.makedirs(trees, mode=0o700, exist_ok=True)
    dockerfile = read_dockerfile(request, source)
    stages = parse_dockerfile(dockerfile, trees, progress)
    ignore_file, rules = load_ignore_rules(source, dockerfile, progress)
    return Definition(source, dockerfile, stages, ignore_file, rules, trees)


@dataclass(frozen=True, slots=True)
class Ready:
    """What is to be solved, one plan a platform, and the site that its steps share."""

    plans: list[BuildPlan]
    site: Site
    bases: Bases


@dataclass(frozen=True, slots=True)
class Start:
    """All that plans and their site are made of.

    build_id: empty where nothing is journalled. locked: the lock that sources are held to. shared,
    among: what it shares with other builds, and what it has to know of them.
    """

    store: Store
    request: BuildRequest
    platforms: tuple[str, ...]
    definition: Definition
    supplies: Supplies
    progress: Progress
    cancel: Cancel
    build_id: str = ""
    locked: "Locked | None" = None
    shared: Shared | None = None
    among: Among | None = None

    def ready(self, stack: ExitStack, *, lazily: bool, absent: Absent | None = None) -> Ready:
        """Lower the target and open the site, until `stack` ends.

        lazily: layers of base images that are not here stay where they are until they are needed.
        absent: knows where they are. Raises BuildError, GrammarError, StoreError.
        """
        request, store, definition = self.request, self.store, self.definition
        jobs = request.jobs or default_jobs()
        shared = self.shared or new_shared(store, jobs, stack, absent)
        absent = shared.absent
        options = options_of(definition.stages, request)
        linter = Linter(definition.stages, options, warning_to(self.progress))
        if self.locked is not None:
            self.locked.find(definition.source, definition.dockerfile)
        bases = Bases(store, request, self.progress, absent if lazily else None, self.locked)
        plans, vertices = self._plans(linter, bases)
        site = Site(
            store,
            shared.context(definition.source, definition.ignore_file, definition.rules),
            self.progress,
            self.cancel,
            self.build_id,
            definition.dockerfile.name,
            linter,
            shared.slots,
            self.supplies,
            shared.launchers,
            shared.network(request),
            journal_name=definition.journal_name,
            named={
                item.name: shared.folder(item) for item in plans[0].target.plan.contexts.local()
            },
            vertices={**self.among.below, **vertices} if self.among is not None else vertices,
            absent=absent,
            ledger=shared.ledger,
            imports=imports_of(request, plans[0].platform, absent, self.progress, stack),
            commits=self._commits(plans, vertices, shared.commits),
            gate=self._gate(plans),
            keep_failed=request.keep_failed,
        )
        return Ready(plans, site, bases)

    def _gate(self, plans: list[BuildPlan]) -> "SecretGate | None":
        """Return the gate for secrets, after it has seen the plans; None without any."""
        request = self.request
        if not (request.secrets or request.ssh or request.allow_secret_leak):
            return None
        from builder.secretgate import gate_of

        gate = gate_of(self.store, request, self.supplies.secrets, self.progress)
        if gate is not None:
            images = (stage for plan in plans for stage in plan.images)
            gate.check_plan(plans[0].vertices.values(), images)
        return gate

    def _commits(
        self,
        plans: list[BuildPlan],
        vertices: dict[VertexID, Vertex],
        known: "dict[GitRef, Commit]",
    ) -> "dict[GitRef, Commit]":
        """Hold the plans to the lock; return the commits that it names. Raises BuildError.

        known: what is returned without a lock.
        """
        if self.locked is None:
            return known
        commits = self.locked.pin(vertices, self.store, self.supplies.secrets)
        self.locked.warn_of_rest(plans, self.definition.stages, self.progress)
        return commits

    def _plans(
        self, linter: Linter, bases: Bases
    ) -> tuple[list[BuildPlan], dict[VertexID, Vertex]]:
        request, definition = self.request, self.definition
        vertices: dict[VertexID, Vertex] = {}
        with tables.kept_in(definition.trees):
            linter.check_file(request, self.platforms[0])
            plans = [
                plan_build(
                    self.store,
                    request,
                    definition.stages,
                    wanted,
                    linter,
                    bases,
                    vertices,
                    self.among,
                )
                for wanted in self.platforms
            ]
            linter.check_plan(vertices.values(), definition.rules)
        linter.raise_if_asked()
        return plans, vertices


def warning_to(progress: Progress) -> Callable[[Rule, str, int | None], None]:
    """Return what makes an event of each finding that counts."""

    def warn(rule: Rule, message: str, line: int | None) -> None:
        progress.emit(BuildWarning(rule.name, message, line, rule.description, rule.url))

    return warn


def check_platform(request: BuildRequest) -> str:
    """Return the first platform to build for. Raises BuildError for what is none."""
    return platforms_of(request)[0]


def platforms_of(request: BuildRequest) -> tuple[str, ...]:
    """Return the platforms to build for, each once. Raises BuildError for what is none."""
    found = []
    for text in (request.platform or "local").split(","):
        try:
            wanted = platforms.host() if text.strip() == "local" else platforms.parse(text.strip())
        except ValueError as error:
            raise BuildError(
                f"--platform: {error}", hint="as in linux/arm64, or several with commas"
            ) from error
        found.append(str(wanted))
    return tuple(dict.fromkeys(found))


def parse_dockerfile(dockerfile: DockerfileText, trees: str, progress: Progress) -> StageList:
    """Parse the Dockerfile as a step of its own. Raises GrammarError with line and caret."""
    step = progress.begin(f"[internal] load build definition from {dockerfile.name}")
    try:
        with tables.kept_in(trees):
            tree = parse_cached(dockerfile.data, dockerfile.name, trees, parser)
        stages = stages_of(tree, dockerfile.data)
    except (GrammarError, BuildError) as error:
        step.failed(error)
        raise
    step.transfer("transferring dockerfile:", len(dockerfile.data), 0, done=True)
    step.done()
    return stages


def parser() -> Parse:
    """Return the parser; it takes 100 ms to import and make ready."""
    from grammar.parse import parse

    return parse


def load_ignore_rules(
    source: SourceTree, dockerfile: DockerfileText, progress: Progress
) -> tuple[str | None, IgnoreRules | None]:
    """Read the ignore file as a step of its own."""
    step = progress.begin("[internal] load .dockerignore")
    try:
        found = read_ignore_rules(source, dockerfile)
    except BuildError as error:
        step.failed(error)
        raise
    step.done()
    return found


def lock_of(request: BuildRequest) -> "Locked | None":
    """Return the lock that a request goes by, None without one. Raises BuildError."""
    if not request.locked:
        return None
    from builder.locked import opened_lock

    return opened_lock(request)


def imports_of(
    request: BuildRequest, platform: str, absent: Absent, progress: Progress, stack: ExitStack
) -> "Imports | None":
    """Open the remote caches that are looked up in until `stack` ends; None where none is named."""
    if not request.cache_from:
        return None
    from builder.remotecache.exports import warn
    from builder.remotecache.opening import opened_imports

    wanted = platforms.parse(platform)
    return stack.enter_context(
        opened_imports(request, wanted, absent, lambda text: warn(progress, text))
    )
