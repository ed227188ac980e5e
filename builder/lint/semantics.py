"""Rules that need values: variables, base images, what came before in a stage.

Three kinds: rules about the FROMs see the global scope (`Subject`); rules about an instruction see
it and the stage as it is before it; and where only the lowering of an instruction knows that a rule
is broken, the function here gives the words, and the instruction's meaning calls it.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Reversible, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from builder.lint.subject import Finding, Subject
from builder.vertex import ContextPath, CopyOp, Vertex
from grammar import ast
from grammar.errors import ExpansionError
from grammar.expand import expand, expand_words
from grammar.ignorefile import IgnoreRules
from store import platforms
from store.errors import InvalidReference
from store.oci import Platform
from store.reference import Reference

if TYPE_CHECKING:
    from builder.stage import Stage

_SECRET = re.compile(
    "(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)",
    re.IGNORECASE,
)
_NO_SECRET = re.compile("(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_TARGET_PLATFORM = re.compile(r"\$(?:TARGETPLATFORM|\{TARGETPLATFORM\})\Z")
_NAMES_EVERYTHING = ("*", "**", "**/*")
_FARTHEST = 2  # letters that a suggestion may differ in, as BuildKit has it
_MANY = 1000


# -- FROM, with the global scope


def undefined_arg_in_from(subject: Subject) -> Iterator[Finding]:
    """Find names in FROM that no ARG above the first FROM declares."""
    known = subject.global_names()
    for stage in subject.stages.stages:
        for word in (stage.from_.image, stage.from_.platform or ""):
            try:
                undefined = expand(word, subject.scope, subject.escape).undefined
            except ExpansionError:  # the build says so itself
                continue
            for name in undefined:
                if name not in known:
                    message = f"FROM argument '{name}' is not declared"
                    message += did_you_mean(name, known)
                    yield Finding(message, stage.from_.span.first_line)


def invalid_default_arg_in_from(subject: Subject) -> Iterator[Finding]:
    """Find base names that make no sense without --build-arg."""
    for stage in subject.stages.stages:
        word = stage.from_.image
        if "$" not in word:
            continue
        try:
            Reference.parse(expand(word, subject.default_scope, subject.escape).value)
        except ExpansionError:
            continue
        except InvalidReference:
            message = f"Default value for ARG {word} results in empty or invalid base image name"
            yield Finding(message, stage.from_.span.first_line)


def redundant_target_platform(subject: Subject) -> Iterator[Finding]:
    """Find `FROM --platform=$TARGETPLATFORM`."""
    for stage in subject.stages.stages:
        word = stage.from_.platform
        if word is not None and _TARGET_PLATFORM.match(word):
            message = (
                f"Setting platform to predefined {word} in FROM is redundant as this is the "
                "default behavior"
            )
            yield Finding(message, stage.from_.span.first_line)


def from_platform_flag_const_disallowed(subject: Subject) -> Iterator[Finding]:
    """Find a constant --platform, unless the stage is named after its system or architecture."""
    for stage in subject.stages.stages:
        word = stage.from_.platform
        if word is None or "$" in word:
            continue
        platform = _platform(word)
        name = stage.name or ""
        if platform.os not in name and platform.architecture not in name:
            message = f"FROM --platform flag should not use constant value {quoted(word)}"
            yield Finding(message, stage.from_.span.first_line)


def _platform(word: str) -> Platform:
    """Return what a platform specifier means; a system or an architecture may stand alone."""
    host = platforms.host()
    first, *rest = word.lower().split("/")
    if not rest:
        is_system = first in ("linux", "windows", "darwin", "freebsd")
        first, rest = (first, [host.architecture]) if is_system else (host.os, [first])
    aliases = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
    return Platform(first, aliases.get(rest[0], rest[0]))


# -- an instruction, with the stage before it


def workdir_relative_path(node: ast.Workdir, stage: "Stage") -> Iterator[str]:
    """Find the first WORKDIR of a stage and those it is built on, if it is relative."""
    path = _value(node.path, stage)
    if not stage.is_workdir_set and not path.startswith("/"):
        changes = "can have unexpected results if the base image changes"
        yield f"Relative workdir {quoted(path)} {changes}"


def json_args_recommended(node: ast.Cmd | ast.Entrypoint, stage: "Stage") -> Iterator[str]:
    """Find shell forms of CMD and ENTRYPOINT where no SHELL says that one is wanted."""
    if isinstance(node.command, ast.ShellForm) and not stage.config.shell:
        yield (
            f"JSON arguments recommended for {word_of(node)} to prevent unintended behavior "
            "related to OS signals"
        )


def legacy_key_value_format(node: ast.Env | ast.Label, _stage: "Stage") -> Iterator[str]:
    """Find `ENV key value`."""
    if node.legacy:
        word = word_of(node)
        yield f'"{word} key=value" should be used instead of legacy "{word} key value" format'


def secrets_used_in_arg_or_env(node: ast.Arg | ast.Env, stage: "Stage") -> Iterator[str]:
    """Find names that sound like secrets: their values end up in the image or its history."""
    word = "ARG" if isinstance(node, ast.Arg) else "ENV"
    for raw, _ in node.pairs:
        name = _value(raw, stage)
        if _SECRET.search(name) and not _NO_SECRET.search(name):
            yield (f"Do not use ARG or ENV instructions for sensitive data ({word} {quoted(name)})")


def expose_proto_casing(node: ast.Expose, stage: "Stage") -> Iterator[str]:
    """Find protocols with upper-case letters."""
    for port in _ports(node, stage):
        protocol = port.rpartition(":")[2].partition("/")[2]
        if protocol != protocol.lower():
            yield f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"


def expose_invalid_format(node: ast.Expose, stage: "Stage") -> Iterator[str]:
    """Find addresses and host ports, which EXPOSE does not publish."""
    for port in _ports(node, stage):
        if port.rpartition(":")[0].strip(":"):
            yield (
                "EXPOSE instruction should not define an IP address or host-port mapping, "
                f"found '{port}'"
            )


def _ports(node: ast.Expose, stage: "Stage") -> Iterator[str]:
    for raw in node.ports:
        try:
            yield from expand_words(raw, stage.env, stage.escape)
        except ExpansionError:
            return


def _value(raw: str, stage: "Stage") -> str:
    """Return the value of a word, or the word where it has none: the build says so itself."""
    try:
        return expand(raw, stage.env, stage.escape).value
    except ExpansionError:
        return raw


# -- the instructions of a stage


def multiple_instructions_disallowed(nodes: Sequence[ast.Instruction]) -> Iterator[Finding]:
    """Find the CMDs, ENTRYPOINTs and HEALTHCHECKs of a stage that a later one replaces."""
    last: dict[type[ast.Instruction], ast.Instruction] = {}
    for node in nodes:
        if not isinstance(node, ast.Cmd | ast.Entrypoint | ast.Healthcheck):
            continue
        before = last.get(type(node))
        if before is not None:
            message = (
                f"Multiple {word_of(node)} instructions should not be used in the same stage "
                "because only the last one will be used"
            )
            yield Finding(message, before.span.first_line)
        last[type(node)] = node


# -- the plan


def copy_ignored_file(vertices: Iterable[Vertex], rules: IgnoreRules | None) -> Iterator[Finding]:
    """Find sources that the ignore file hides, so that COPY cannot find them.

    An ignore file with exceptions is not judged: what it hides may hold what it shows.
    """
    if rules is None or not rules.patterns or any(p.startswith("!") for p in rules.patterns):
        return
    for vertex in vertices:
        if not isinstance(vertex.op, CopyOp):
            continue
        verb = "Add" if vertex.title[:3].upper() == "ADD" else "Copy"
        for path in (s.path for s in vertex.op.sources if isinstance(s, ContextPath)):
            # Relative to the context, which `..` does not lead out of.
            cleaned = posixpath.normpath("/" + path).lstrip("/") or "."
            if _is_ignored(cleaned, rules):
                message = f"Attempting to {verb} file {quoted(cleaned)}"
                message += " that is excluded by .dockerignore"
                yield Finding(message, vertex.place.first_line)


def _is_ignored(path: str, rules: IgnoreRules) -> bool:
    if path == ".":
        return any(pattern in _NAMES_EVERYTHING for pattern in rules.patterns)
    return rules.excludes(path)


# -- words for what lowering and copying find


def undefined_var(name: str, known: Reversible[str]) -> str:
    """Return the words for a variable that nothing sets. known: the names that are set."""
    suggestion = closest(name, known)
    return f"Usage of undefined variable '${name}'" + (
        f" (did you mean ${suggestion}?)" if suggestion else ""
    )


def invalid_base_image_platform(name: str, actual: Platform, expected: str) -> str | None:
    """Return the words for a base image of another platform, None if it is of the right one."""
    wanted_os, wanted_architecture, *_ = (*expected.split("/"), "")
    if (actual.os, actual.architecture) == (wanted_os, wanted_architecture):
        return None
    return (
        f"Base image {name} was pulled with platform {quoted(str(actual))}, expected "
        f"{quoted(expected)} for current build"
    )


def arg_shadows_env(name: str) -> str:
    """Return the words for an ARG that hides an ENV."""
    return f"ARG {name} hides the ENV of the same name until the next ENV {name}"


def copy_many_sources_to_file(destination: str) -> str:
    """Return the words for several sources that may land in one file."""
    return (
        f"Several sources, and the destination {destination} does not end with /: if it is no "
        "directory the last file wins"
    )


def copy_unknown_owner(chown: str, unknown: str) -> str:
    """Return the words for an owner that the image does not know."""
    return (
        f"Owner {quoted(unknown)} of --chown={chown} is not in the image's passwd or group file "
        "and counts as root"
    )


def word_of(node: ast.Instruction) -> str:
    """Return the instruction's word as written."""
    return node.text.split(None, 1)[0]


def quoted(text: str) -> str:
    """Return `text` in double quotes, as Go's %q."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def did_you_mean(name: str, known: Reversible[str]) -> str:
    """Return ` (did you mean X?)`, or nothing when nothing is close."""
    suggestion = closest(name, known)
    return f" (did you mean {suggestion}?)" if suggestion else ""


def closest(name: str, known: Reversible[str]) -> str | None:
    """Return the first of the known names that differ least, at most in two letters.

    Of very many names only the last ones are looked at: it is done for each undefined variable.
    """
    last = list(islice(reversed(known), _MANY))[::-1]
    names = [other for other in last if abs(len(other) - len(name)) <= _FARTHEST]
    near = [other for other in names if differs_by(name, other, _FARTHEST)]
    nearest = [other for other in near if differs_by(name, other, 1)]
    return next(iter(nearest or near), None)


def differs_by(left: str, right: str, edits: int) -> bool:
    """Tell whether so many letters inserted, dropped or replaced, or fewer, make one the other."""
    if left == right:
        return True
    if edits == 0 or abs(len(left) - len(right)) > edits:
        return False
    at = 0
    while left[at : at + 1] == right[at : at + 1]:
        at += 1
    left, right = left[at:], right[at:]
    return (
        differs_by(left[1:], right[1:], edits - 1)
        or differs_by(left[1:], right, edits - 1)
        or differs_by(left, right[1:], edits - 1)
    )
