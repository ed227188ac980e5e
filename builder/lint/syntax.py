"""Rules that need the text alone: what is written, before any variable has a value.

A rule is a function from the file to its violations. Refuses to know base images and contexts.
"""

import re
from collections.abc import Iterator

from builder.lint.subject import Finding, Subject
from grammar import ast

_USUAL_SYNTAX = re.compile(
    r"dockerfile\.v0\Z|(?:[\w.-]+(?::\d+)?/)*docker/dockerfile(?:-upstream)?(?:[:@]|\Z)"
)
_RESERVED = ("context", "scratch")


def stage_name_casing(subject: Subject) -> Iterator[Finding]:
    """Find stage names with upper-case letters."""
    yield from _seen_while_parsing("StageNameCasing", subject)


def from_as_casing(subject: Subject) -> Iterator[Finding]:
    """Find `FROM … as`, and the other way round."""
    yield from _seen_while_parsing("FromAsCasing", subject)


def no_empty_continuation(subject: Subject) -> Iterator[Finding]:
    """Find blank lines inside an instruction."""
    yield from _seen_while_parsing("NoEmptyContinuation", subject)


def consistent_instruction_casing(subject: Subject) -> Iterator[Finding]:
    """Find instruction words in another case than most."""
    yield from _seen_while_parsing("ConsistentInstructionCasing", subject)


def exec_form_invalid_json(subject: Subject) -> Iterator[Finding]:
    """Find commands that look like an exec form and are none."""
    yield from _seen_while_parsing("ExecFormInvalidJSON", subject)


def foreign_syntax(subject: Subject) -> Iterator[Finding]:
    """Find a frontend that is not the usual one, from whichever registry."""
    reference = (subject.syntax or "dockerfile.v0").split()[0]
    if not _USUAL_SYNTAX.match(reference):
        message = f"The frontend {reference} is not used: the file is read as any Dockerfile"
        is_directive = subject.syntax == subject.stages.dockerfile.directives.syntax
        yield Finding(message, subject.stages.directive_line("syntax") if is_directive else 1)


def _seen_while_parsing(rule: str, subject: Subject) -> Iterator[Finding]:
    """Return what the parser saw, which alone knows the text as written."""
    for warning in subject.stages.dockerfile.warnings:
        if warning.rule == rule:
            yield Finding(warning.message, warning.line)


def duplicate_stage_name(subject: Subject) -> Iterator[Finding]:
    """Find the second stage of a name, and further ones."""
    names = set()
    for stage in subject.stages.stages:
        if stage.name in names:
            message = f'Duplicate stage name "{stage.name}", stage names should be unique'
            yield Finding(message, stage.from_.span.first_line)
        if stage.name is not None:
            names.add(stage.name)


def reserved_stage_name(subject: Subject) -> Iterator[Finding]:
    """Find stages that are called what means something else."""
    for stage in subject.stages.stages:
        if stage.name in _RESERVED:
            message = f'Stage name should not use the same name as reserved stage "{stage.name}"'
            yield Finding(message, stage.from_.span.first_line)


def maintainer_deprecated(subject: Subject) -> Iterator[Finding]:
    """Find MAINTAINER."""
    for node in subject.stages.dockerfile.instructions:
        if isinstance(node, ast.Maintainer):
            message = "Maintainer instruction is deprecated in favor of using label"
            yield Finding(message, node.span.first_line)


def invalid_definition_description(subject: Subject) -> Iterator[Finding]:
    """Find comments right above FROM … AS and ARG that do not begin with what is defined there."""
    for node in subject.stages.dockerfile.instructions:
        if isinstance(node, ast.From) and node.name is not None:
            names: tuple[str, ...] = (node.name.lower(),)
        elif isinstance(node, ast.Arg):
            names = tuple(name for name, _ in node.pairs)
        else:
            continue
        comments = [line for line in node.comments if not line.startswith("check=")]
        if comments and comments[-1].split(" ")[0] not in names:
            word = "FROM" if isinstance(node, ast.From) else "ARG"
            example = names[0] if len(names) == 1 else "<arg_key>"
            message = f"Comment for {word} should follow the format: `# {example} <description>`"
            yield Finding(message, node.span.first_line)
