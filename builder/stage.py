"""The state of one stage while its instructions are lowered.

`Stage` is a value: an instruction takes one and returns the next. What many stages share (the
request, the vertices made so far, other stages) is the `Plan`, reached through `stage.plan`.
"""

import posixpath
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING

from builder.errors import BuildError, InstructionError, Place
from builder.lint import semantics
from builder.namedcontexts import NamedContext, NamedContexts
from builder.persistent import PersistentList, PersistentMap
from builder.policy import policies_of
from builder.request import BuildRequest
from builder.stages import PROXY_ARGS, StageList, StageText
from builder.vertex import NO_POLICIES, BaseOp, Op, Surroundings, Vertex, VertexID, vertex_id
from grammar import ast
from grammar.ast import Policies
from grammar.errors import ExpansionError
from grammar.expand import Expansion, expand, expand_body, expand_words
from store.images import Image
from store.oci import ContainerConfig
from store.reference import Reference
from values.classes import dataclass, field, replace

if TYPE_CHECKING:
    from builder.among import Among

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """One history entry to be; `vertex` is what makes its layer, None for an empty one.

    line: of its instruction in the Dockerfile, 0 where that is not known.
    """

    created_by: str
    vertex: VertexID | None
    line: int = 0


@dataclass(slots=True)
class Plan:
    """What the stages of one build share while they are lowered.

    stage: gives the finished state of another stage, lowering it first where needed.
    platform: os/arch[/variant] of the stage at hand, which its FROM may have named; the target's
    otherwise. image: gives the image of a reference for the instruction at a place, on a platform.
    layout: gives the image of a named context that is an OCI layout. contexts: the named contexts.
    among: the other targets, where there are some.
    """

    request: BuildRequest
    stages: StageList
    platform: str
    build_args: Mapping[str, str]
    global_env: dict[str, str]
    stage: Callable[[StageText], "Stage"]
    image: Callable[[Reference, Place, str], Image]
    layout: Callable[[NamedContext, str], Image]
    contexts: NamedContexts
    warn: Callable[[str, str, int | None], None]
    vertices: dict[VertexID, Vertex] = field(default_factory=dict)
    among: "Among | None" = None

    def identity(
        self,
        op: Op,
        inputs: tuple[VertexID, ...],
        *,
        no_cache: bool,
        policies: Policies = NO_POLICIES,
    ) -> VertexID:
        """Return the name of a vertex; equal ones are one."""
        outside = self.among.outside(op, self.request, self.contexts) if self.among else ()
        return vertex_id(
            op, inputs, self.platform, no_cache=no_cache, policies=policies, outside=outside
        )

    def is_uncached(self, text: StageText, op: Op) -> bool:
        """Tell whether an operation of a stage has to be done again; what is just there has not.

        Source: BuildKit's dockerui, IsNoCache: names of stages in any case.
        """
        if isinstance(op, BaseOp):
            return False
        names = {text.name, text.display.lower(), str(text.index)}
        asked = self.request.no_cache_stages
        return self.request.no_cache or any(name.lower() in names for name in asked)

    def shown(self, text: StageText) -> str:
        """Return what progress calls a stage: with its platform where there are several."""
        if "," not in (self.request.platform or ""):
            return text.display
        return f"{self.platform} {text.display}".rstrip()


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage after some of its instructions.

    config: the image config's inner part so far, but for what grows with the file; see
    `container_config`. env: the build's environment (base, ENV and ARG; the later instruction
    wins). args: ARGs in effect with their values (or ""), in order. config_env, labels, ports,
    volumes, triggers: what instructions added to the fields of config, in order; the values of
    ports and volumes mean nothing.
    root: the vertex that makes the root file system. base: the image the stage began with.
    step, steps: number of the instruction at hand among those that make vertices, and how many
    there are. line: that of the instruction at hand.
    cmd_set: CMD was given in this stage (ENTRYPOINT then leaves it alone).
    is_workdir_set: this stage, or one that it is built on, has a WORKDIR.
    """

    plan: Plan
    text: StageText
    root: VertexID
    base: Image | None = None
    config: ContainerConfig = field(default_factory=ContainerConfig)
    env: PersistentMap[str] = field(default_factory=PersistentMap)
    args: PersistentMap[str] = field(default_factory=PersistentMap)
    config_env: PersistentMap[str] = field(default_factory=PersistentMap)
    labels: PersistentMap[str] = field(default_factory=PersistentMap)
    ports: PersistentMap[None] = field(default_factory=PersistentMap)
    volumes: PersistentMap[None] = field(default_factory=PersistentMap)
    triggers: PersistentList[str] = field(default_factory=PersistentList)
    history: PersistentList[HistoryStep] = field(default_factory=PersistentList)
    author: str | None = None
    step: int = 1
    steps: int = 1
    line: int = 0
    cmd_set: bool = False
    is_workdir_set: bool = False

    @property
    def shell(self) -> tuple[str, ...]:
        """The command that shell forms are given to."""
        return self.config.shell or DEFAULT_SHELL

    @property
    def is_base_unknown(self) -> bool:
        """Tell whether the base stands for one that nobody could ask (see lint/check.py)."""
        return self.base is not None and not self.base.id

    @property
    def cwd(self) -> str:
        """The working directory, absolute."""
        return self.config.working_dir or "/"

    @property
    def escape(self) -> str:
        """The escape character of the file."""
        return self.plan.stages.dockerfile.directives.escape

    def expand(self, word: str, node: ast.Instruction) -> str:
        """Return `word` with variables replaced and quotes removed; unset names are empty."""
        return self._value(lambda: expand(word, self.env, self.escape), node)

    def expand_body(self, body: str, node: ast.Instruction) -> str:
        """Return a heredoc's body with variables replaced."""
        return self._value(lambda: expand_body(body, self.env), node)

    def _value(self, expanded: Callable[[], Expansion], node: ast.Instruction) -> str:
        try:
            expansion = expanded()
        except ExpansionError as error:
            raise InstructionError(self.place(node), str(error), hint=error.hint) from error
        for name in expansion.undefined:
            if name not in self.args and not self.is_base_unknown:
                message = semantics.undefined_var(name, self.env)
                self.plan.warn("UndefinedVar", message, node.span.first_line)
        return expansion.value

    def expand_words(self, word: str, node: ast.Instruction) -> tuple[str, ...]:
        """Return the words that `word` becomes: as `expand`, split at blanks afterwards."""
        try:
            return expand_words(word, self.env, self.escape)
        except ExpansionError as error:
            raise InstructionError(self.place(node), str(error), hint=error.hint) from error

    def place(self, node: ast.Instruction) -> Place:
        """Return where `node` stands."""
        return self.plan.stages.place(node)

    def configure(self, **changes: object) -> "Stage":
        """Return the stage with fields of its image config replaced."""
        return replace(self, config=replace(self.config, **changes))  # type: ignore[arg-type]

    def record(self, created_by: str, vertex: VertexID | None = None) -> "Stage":
        """Return the stage with a history entry more."""
        entry = HistoryStep(created_by, vertex, self.line)
        return replace(self, history=self.history.append(entry))

    def with_env(self, name: str, value: str) -> "Stage":
        """Return the stage with a variable of the build's environment set."""
        return replace(self, env=self.env.set(name, value))

    def container_config(self) -> ContainerConfig:
        """Return the whole inner part of the image config."""
        return replace(
            self.config,
            env=with_variables(self.config.env, self.config_env),
            labels=tuple({**dict(self.config.labels), **self.labels}.items()),
            exposed_ports=tuple(sorted({*self.config.exposed_ports, *self.ports})),
            volumes=tuple(sorted({*self.config.volumes, *self.volumes})),
            on_build=(*self.config.on_build, *self.triggers),
        )

    def without_triggers(self) -> "Stage":
        """Return the stage without ONBUILD triggers."""
        return replace(self.configure(on_build=()), triggers=PersistentList())

    def apply(
        self,
        node: ast.Instruction,
        op: Op,
        created_by: str,
        inputs: tuple[VertexID, ...] = (),
        facts: Mapping[str, object] | None = None,
    ) -> "Stage":
        """Return the stage after a vertex that changes its root file system.

        inputs: the op's further inputs; the root file system so far is put before them. facts: see
        Vertex.
        """
        step = self.step + 1
        vertex = self.add_vertex(node, op, (self.root, *inputs), step, facts=facts)
        return replace(self, root=vertex, step=step).record(created_by, vertex)

    def add_vertex(
        self,
        node: ast.Instruction,
        op: Op,
        inputs: tuple[VertexID, ...],
        step: int,
        name: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> VertexID:
        """Put a vertex into the plan, unless an equal one is there, and return its id.

        name: what progress shows instead of the instruction.
        """
        no_cache = self.plan.is_uncached(self.text, op)
        policies = policies_of(node, op)
        identity = self.plan.identity(op, inputs, no_cache=no_cache, policies=policies)
        label = step_label(self.plan.shown(self.text), step, self.steps)
        self.plan.vertices.setdefault(
            identity,
            Vertex(
                identity,
                op,
                inputs,
                name=name or f"{label} {node.text}",
                title=node.text,
                stage=self.text.display,
                step=step,
                place=self.place(node),
                platform=self.plan.platform,
                no_cache=no_cache,
                policies=policies,
                facts=facts or {},
                surroundings=Surroundings(tuple(self.env.items()), self.cwd, self.config.user),
            ),
        )
        return identity

    def absolute(self, path: str) -> str:
        """Return `path` joined to the working directory and cleaned; a final `/` is kept."""
        joined = posixpath.normpath(posixpath.join("/", self.cwd, path))
        joined = "/" + joined.lstrip("/")
        keep = path.endswith(("/", "/.")) or path in (".", "..")
        return joined + "/" if keep and joined != "/" else joined


def step_label(stage: str, step: int, steps: int) -> str:
    """Return what stands before an instruction in progress output: `[build 2/4]`."""
    return f"[{stage} {step}/{steps}]" if stage else f"[{step}/{steps}]"


def with_variables(env: tuple[str, ...], changes: Mapping[str, str]) -> tuple[str, ...]:
    """Return `KEY=value` strings with variables set: in their first place, new ones at the end."""
    left = dict(changes)
    kept = [
        f"{name}={left.pop(name)}" if name in left else item
        for item, name in ((item, item.partition("=")[0]) for item in env)
    ]
    return (*kept, *(f"{name}={value}" for name, value in left.items()))


def env_pairs(env: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return `KEY=value` strings as pairs; a string without `=` has an empty value."""
    return tuple((key, value) for key, _, value in (item.partition("=") for item in env))


def proxy_env(build_args: Mapping[str, str], declared: Container[str]) -> dict[str, str]:
    """Return the predefined proxy arguments that were given and not declared by an ARG.

    Each is there in both spellings, HTTP_PROXY and http_proxy, as programs read one or the other.
    """
    given = {
        name: value
        for name, value in build_args.items()
        if name in PROXY_ARGS and name not in declared and value
    }
    both = {spelling: given[name] for name in given for spelling in (name.upper(), name.lower())}
    return {name: value for name, value in (both | given).items() if name not in declared}


def unsupported(stage: Stage, node: ast.Instruction, what: str) -> BuildError:
    """Return the error for a form of `node` that is not built yet."""
    return InstructionError(stage.place(node), f"{what}: not supported yet")
