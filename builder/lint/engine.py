"""Runs the rules and decides which of their findings count.

Owns `# check=…`: as directive for the file, as comment above an instruction for that one, and as
build argument. Source: Dockerfile reference, "check".
"""

import re
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from builder.errors import BuildError, LintViolation, Place
from builder.instructions.origin import global_env
from builder.lint import semantics
from builder.lint.rules import RULES, Rule
from builder.lint.subject import Subject
from builder.request import BuildRequest
from builder.stages import StageList, platform_args
from builder.vertex import Vertex
from grammar import ast
from grammar.ignorefile import IgnoreRules
from store import platforms
from values.classes import dataclass

if TYPE_CHECKING:
    from builder.stage import Stage

CHECK_ARG = "BUILDKIT_DOCKERFILE_CHECK"
Warn = Callable[[str, str, int | None], None]

_COMMENT = re.compile(r"check\s*=\s*(\S+)", re.IGNORECASE)
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_INSPECTIONS: dict[type[ast.Instruction], tuple[Rule, ...]] = {}
for _rule in RULES.values():
    for _type in _rule.nodes:
        _INSPECTIONS[_type] = (*_INSPECTIONS.get(_type, ()), _rule)


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What `check=` says. `skip` does not concern experimental rules, which are off anyway."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    is_error: bool = False

    def allows(self, rule: Rule) -> bool:
        """Tell whether a rule's findings count."""
        if rule.experimental:
            return bool(self.experimental & {rule.name, "all"})
        return not self.skip & {rule.name, "all"}

    def and_also(self, other: "CheckOptions") -> "CheckOptions":
        """Return the options with what `other` skips and asks for besides."""
        return CheckOptions(
            self.skip | other.skip, self.experimental | other.experimental, self.is_error
        )


def parse_options(text: str) -> CheckOptions:
    """Return what the value of `check=` says. Raises ValueError."""
    named: dict[str, frozenset[str]] = {}
    is_error = False
    for part in text.strip().split(";", 2) if text.strip() else ():
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or key not in ("skip", "experimental", "error"):
            raise ValueError(f'invalid check option "{key if equals else part}"')
        if key == "error":
            if value not in _TRUE | _FALSE:
                raise ValueError(f'invalid check option "{part}": neither true nor false')
            is_error = value in _TRUE
        else:
            named[key] = frozenset(rule.strip() for rule in value.split(","))
    empty: frozenset[str] = frozenset()
    return CheckOptions(named.get("skip", empty), named.get("experimental", empty), is_error)


def options_of(stages: StageList, request: BuildRequest) -> CheckOptions:
    """Return the options for a file: of the build argument, or else the directive.

    Raises BuildError.
    """
    given = dict(request.build_args).get(CHECK_ARG)
    tree = stages.dockerfile
    text = (tree.directives.check or "") if given is None else given
    try:
        return parse_options(text)
    except ValueError as error:
        line = f"{tree.name}:{stages.directive_line('check')}"
        where = line if given is None else f"--build-arg {CHECK_ARG}"
        raise BuildError(
            f"{where}: failed to parse check options: {error}",
            hint="as in check=skip=RULE,RULE;error=true",
        ) from error


def options_above(node: ast.Instruction) -> CheckOptions | None:
    """Return what a `# check=…` comment above an instruction says, None where there is none.

    What follows the first blank is the reason. One that cannot be read says nothing.
    """
    for comment in node.comments:
        match = _COMMENT.match(comment)
        if match is not None:
            try:
                return parse_options(match[1])
            except ValueError:
                return None
    return None


@dataclass(frozen=True, slots=True)
class Violation:
    """A finding that counts, and the lines that it is about, where it is about some."""

    rule: Rule
    message: str
    place: Place | None


class Linter:
    """Takes what rules find about one file, keeps what counts, and passes it on once.

    An instance is the `warn` of a build; it may be called from several threads.
    """

    def __init__(
        self,
        stages: StageList,
        options: CheckOptions,
        on_warning: Callable[[Rule, str, int | None], None],
    ) -> None:
        self.stages = stages
        self.options = options
        self._found: dict[tuple[str, str, int | None], Violation] = {}
        self._on_warning = on_warning
        self._nodes = stages.dockerfile.instructions
        self._lock = threading.Lock()

    def __call__(self, rule: str, message: str, line: int | None) -> None:
        """Take a finding. Raises LookupError for a rule that the table does not have."""
        found = RULES[rule]
        node = self._at(line)
        local = options_above(node) if node is not None and node.comments else None
        options = self.options if local is None else self.options.and_also(local)
        if not options.allows(found):
            return
        with self._lock:
            if (rule, message, line) in self._found:
                return
            self._found[rule, message, line] = Violation(found, message, self._place(line, node))
        self._on_warning(found, message, line)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What counts, in order of lines."""
        found = self._found.values()
        return tuple(sorted(found, key=lambda item: item.place.first_line if item.place else 0))

    def check_file(self, request: BuildRequest, platform: str) -> None:
        """Run the rules that are about the file as a whole."""
        subject = subject_of(self.stages, request, platform)
        for rule in RULES.values():
            for finding in rule.check(subject) if rule.check else ():
                self(rule.name, finding.message, finding.line)

    def check_plan(self, vertices: Iterable[Vertex], rules: IgnoreRules | None) -> None:
        """Run the rule that is about what is copied from a context with these ignore rules."""
        for finding in semantics.copy_ignored_file(vertices, rules):
            self("CopyIgnoredFile", finding.message, finding.line)

    def raise_if_asked(self) -> None:
        """Raise LintViolation if there are warnings and `error=true` is set."""
        if self.options.is_error and self._found:
            names = sorted({rule for rule, _, _ in self._found})
            raise LintViolation(
                f"lint violation found for rules: {', '.join(names)}",
                hint="check=error=true makes errors of warnings",
            )

    def _place(self, line: int | None, node: ast.Instruction | None) -> Place | None:
        """Return the instruction's lines, or the one line where that is inside of it."""
        if line is None:
            return None
        if node is not None and node.span.first_line == line:
            return self.stages.place(node)
        return Place(self.stages.dockerfile.name, line, line, self.stages.source)

    def _at(self, line: int | None) -> ast.Instruction | None:
        """Return the instruction that a line is part of."""
        if line is None:
            return None
        index = bisect_right(self._nodes, line, key=lambda node: node.span.first_line) - 1
        found = self._nodes[index] if index >= 0 else None
        return found if found is not None and line <= found.span.last_line else None


def subject_of(stages: StageList, request: BuildRequest, platform: str) -> Subject:
    """Return what rules about a file are given.

    An ARG that cannot be expanded leaves what is predefined: the build is going to say so.
    """
    predefined = platform_args(platform, str(platforms.host()), request.target)
    given = dict(request.build_args)
    try:
        scope = global_env(stages, given, predefined)
        default = global_env(stages, {}, predefined) if given else scope
    except BuildError:
        scope = default = predefined
    syntax = given.get("BUILDKIT_SYNTAX") or stages.dockerfile.directives.syntax
    return Subject(stages, scope, default, syntax)


def inspect(node: ast.Instruction, stage: "Stage") -> Iterator[tuple[str, str]]:
    """Return rule and message for all that is to be said of an instruction before it is lowered."""
    for rule in _INSPECTIONS.get(type(node), ()):
        if rule.inspect is not None:
            for message in rule.inspect(node, stage):
                yield rule.name, message


def inspect_stage(nodes: Sequence[ast.Instruction], warn: Warn) -> None:
    """Run the rule about the instructions of a stage together."""
    name = "MultipleInstructionsDisallowed"
    allowed = [node for node in nodes if not _skips(node, RULES[name])]
    for finding in semantics.multiple_instructions_disallowed(allowed):
        warn(name, finding.message, finding.line)


def _skips(node: ast.Instruction, rule: Rule) -> bool:
    options = options_above(node) if node.comments else None
    return options is not None and not options.allows(rule)
