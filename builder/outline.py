"""What can be asked about a Dockerfile: its targets, and what a target takes.

Owns descriptions, the comments `# NAME text` above FROM and ARG. Builds nothing and asks no
registry. Source: BuildKit's subrequests `targets` and `outline`.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping

from builder.instructions.origin import global_env
from builder.request import BuildRequest
from builder.stage import DEFAULT_PATH
from builder.stages import StageList, StageText, platform_args
from grammar import ast
from grammar.errors import ExpansionError
from grammar.expand import expand
from store import platforms
from values.classes import dataclass, field

_NAME = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_TRUE = ("1", "t", "T", "true", "TRUE", "True", None)


@dataclass(frozen=True, slots=True)
class Target:
    """A stage that can be built. base, platform: as written."""

    name: str
    is_default: bool
    description: str
    base: str
    platform: str
    span: ast.Span


@dataclass(frozen=True, slots=True)
class OutlineArg:
    """An ARG that counts for a target, with the value it has when nothing else is given."""

    name: str
    value: str
    description: str
    span: ast.Span


@dataclass(frozen=True, slots=True)
class OutlineMount:
    """A secret or an ssh agent that a target's RUNs ask for."""

    name: str
    is_required: bool
    span: ast.Span


@dataclass(frozen=True, slots=True)
class Outline:
    """What a target takes, in order of lines. name: empty for an unnamed stage."""

    name: str
    description: str
    args: tuple[OutlineArg, ...]
    secrets: tuple[OutlineMount, ...]
    ssh: tuple[OutlineMount, ...]


def targets_of(stages: StageList) -> tuple[Target, ...]:
    """Return the targets of a file, in order."""
    last = len(stages.stages) - 1
    return tuple(
        Target(
            stage.name or "",
            stage.index == last,
            description(stage.from_, stage.name or ""),
            stage.from_.image,
            stage.from_.platform or "",
            stage.from_.span,
        )
        for stage in stages.stages
    )


def description(node: ast.Instruction, name: str) -> str:
    """Return what the comments above a node say about `name`."""
    start = f"{name} "
    lines = (line for line in node.comments if name and line.startswith(start))
    return next((line.removeprefix(start) for line in lines), "")


def outline_of(
    stages: StageList,
    request: BuildRequest,
    platform: str,
    image_env: Callable[[str], Mapping[str, str]],
) -> Outline:
    """Return what the target of a build takes.

    image_env: gives the environment of a base image, empty where it is not known.
    Raises BuildError for a target that is not there.
    """
    target = stages.target(request.target)
    given = dict(request.build_args)
    predefined = platform_args(platform, str(platforms.host()), request.target)
    scope = global_env(stages, given, predefined)
    walk = _Walk(stages, given, scope, image_env)
    walk.visit(target)
    return Outline(
        target.name or "",
        description(target.from_, target.name or ""),
        tuple(sorted(walk.args.values(), key=_first_line)),
        tuple(sorted(walk.secrets.values(), key=_first_line)),
        tuple(sorted(walk.ssh.values(), key=_first_line)),
    )


def _first_line(item: OutlineArg | OutlineMount) -> int:
    return item.span.first_line


@dataclass(frozen=True, slots=True)
class _State:
    """A stage at its end: variables, what its ARGs are, and the names of the ARGs that count."""

    env: dict[str, str]
    args: dict[str, OutlineArg]
    used: dict[str, None]


@dataclass(slots=True)
class _Walk:
    """Goes through the stages that a target needs; the first to say something about a name wins."""

    stages: StageList
    given: Mapping[str, str]
    scope: Mapping[str, str]
    image_env: Callable[[str], Mapping[str, str]]
    args: dict[str, OutlineArg] = field(default_factory=dict)
    secrets: dict[str, OutlineMount] = field(default_factory=dict)
    ssh: dict[str, OutlineMount] = field(default_factory=dict)
    _states: dict[int, _State] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    def visit(self, stage: StageText) -> None:
        """Take what a stage and those that it needs say, each right before what it needs."""
        left = [stage]
        while left:
            next_one = left.pop()
            if next_one.index not in self._seen:
                self._seen.add(next_one.index)
                self._take(next_one)
                left += reversed(list(self._needed(next_one)))

    def _take(self, stage: StageText) -> None:
        state = self._state(stage)
        for name in state.used:
            if name in state.args:
                self.args.setdefault(name, state.args[name])
        for node in self._instructions(stage):
            if isinstance(node, ast.Run):
                self._mounts(node, state)

    def _base(self, stage: StageText) -> StageText | None:
        return self.stages.before(self._value(stage.from_.image, self.scope), stage.index)

    def _instructions(self, stage: StageText) -> tuple[ast.Instruction, ...]:
        """Return a stage's instructions, those before them that its base stage's ONBUILDs are."""
        base = self._base(stage)
        nodes = base.instructions if base else ()
        fired = (node.instruction for node in nodes if isinstance(node, ast.Onbuild))
        return (*fired, *stage.instructions)

    def _needed(self, stage: StageText) -> Iterator[StageText]:
        """Return the stages that a stage is made of or copies from; unknown names are images."""
        base = self._base(stage)
        if base is not None:
            yield base
        for node in self._instructions(stage):
            names = []
            if isinstance(node, ast.Copy):
                names = [node.from_]
            elif isinstance(node, ast.Run):
                names = [dict(mount.options).get("from") for mount in node.mounts]
            for name in names:
                is_index = isinstance(node, ast.Copy) and name is not None and name.isdecimal()
                for other in self.stages.stages[: stage.index]:
                    if str(other.index) == name if is_index else other.name == (name or "").lower():
                        yield other

    def _state(self, stage: StageText) -> _State:
        """Return the state at a stage's end; the stages that it is built on come first."""
        chain: list[StageText] = []
        next_one: StageText | None = stage
        while next_one is not None and next_one.index not in self._states:
            chain.append(next_one)
            next_one = self._base(next_one)
        for one in reversed(chain):
            self._states[one.index] = self._end_of(one)
        return self._states[stage.index]

    def _end_of(self, stage: StageText) -> _State:
        base = self._base(stage)
        words = (stage.from_.image, stage.from_.platform or "")
        used = {name: None for word in words for name in _NAME.findall(word)}
        if base is not None:
            before = self._states[base.index]
            state = _State(dict(before.env), dict(before.args), before.used | used)
        else:
            image = self.image_env(self._value(stage.from_.image, self.scope))
            state = _State({"PATH": DEFAULT_PATH, **image}, dict(self._global_args()), used)
        for node in self._instructions(stage):
            if isinstance(node, ast.Env):
                pairs = [
                    (self._value(k, state.env), self._value(v, state.env)) for k, v in node.pairs
                ]
                state.env.update(pairs)
            elif isinstance(node, ast.Arg):
                self._arg(node, state)
        self._use_all(state)
        return state

    def _global_args(self) -> Iterator[tuple[str, OutlineArg]]:
        for node in self.stages.global_args:
            for name, _ in node.pairs:
                value = self.scope.get(name, "")
                yield name, OutlineArg(name, value, description(node, name), node.span)

    def _arg(self, node: ast.Arg, state: _State) -> None:
        for name, default in node.pairs:
            state.used[name] = None
            value = self.given.get(name)
            if value is None and default is not None:
                value = self._value(default, state.env)
            if value is None and name in self.scope:
                value = self.scope[name]  # the global ARG speaks for this one
            else:
                text = description(node, name)
                state.args[name] = OutlineArg(name, value or "", text, node.span)
            if value is not None:
                state.env[name] = value

    def _use_all(self, state: _State) -> None:
        """Add the global ARGs that the used global ones are made of."""
        made_of = {
            name: _NAME.findall(default or "")
            for node in self.stages.global_args
            for name, default in node.pairs
        }
        left = list(state.used)
        while left:
            for name in made_of.get(left.pop(), ()):
                if name not in state.used:
                    state.used[name] = None
                    left.append(name)

    def _mounts(self, node: ast.Run, state: _State) -> None:
        for flag in node.mounts:
            options = {key: value and self._value(value, state.env) for key, value in flag.options}
            target = options.get("target") or options.get("dst") or options.get("destination")
            identity = options.get("source") or options.get("src") or options.get("id")
            is_required = "required" in options and options["required"] in _TRUE
            if options.get("type") == "secret":
                name = identity or posixpath.basename(target or "")
                self.secrets.setdefault(name, OutlineMount(name, is_required, node.span))
            elif options.get("type") == "ssh":
                name = options.get("id") or "default"
                self.ssh.setdefault(name, OutlineMount(name, is_required, node.span))

    def _value(self, word: str, env: Mapping[str, str]) -> str:
        try:
            return expand(word, env, self.stages.dockerfile.directives.escape).value
        except ExpansionError:
            return word
