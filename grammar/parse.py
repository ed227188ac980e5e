"""A Dockerfile's bytes → its tree.

Owns the one place where Lark reads instructions, and the translation of Lark's errors into ours.
Source: Dockerfile reference.
"""

import re
from collections.abc import Sequence
from functools import cache

from grammar import ast, diagnose, style
from grammar.errors import DockerfileSyntaxError, shown
from grammar.generator import Lark, UnexpectedInput, UnexpectedToken
from grammar.leaves import Misread, UnknownFlag
from grammar.lines import LogicalLine, Source, read, read_one
from grammar.nodes import callbacks
from grammar.policies import BadPolicy
from grammar.policies import read as read_policies
from grammar.reader import Grammar, make_reader
from values.classes import replace

_GRAMMAR = Grammar(
    "dockerfile.lark",
    start=("instruction", "mount"),
    escaping=frozenset({"VALUE", "NAME", "PAIR", "LEGACY_KEY"}),
)
_ONBUILD = re.compile(r"ONBUILD\s+", re.IGNORECASE)


def parse(text: bytes | str, name: str = "Dockerfile") -> ast.Dockerfile:
    """Return the tree of a Dockerfile.

    text: UTF-8; other bytes are kept, as surrogate escapes in the tree.
    name: what errors and the tree call the file.
    Raises DockerfileSyntaxError, a GrammarError: the first of the file, whose `errors` are all.
    """
    source = read(_encoded(text) if isinstance(text, str) else text, name)
    instructions = []
    errors = list(source.errors)
    for line in source.logical:
        try:
            instructions.append(_instruction(line, source))
        except DockerfileSyntaxError as error:
            errors.append(error)
    if not errors:
        errors += _shape_errors(source, instructions)
    if errors:
        errors.sort(key=lambda error: (error.line, error.column or 0))
        errors[0].errors = tuple(errors)
        raise errors[0]
    tree = ast.Dockerfile(name, source.directives, tuple(instructions), source.warnings)
    return replace(tree, warnings=source.warnings + style.warnings(tree))


def _encoded(text: str) -> bytes:
    """Return text as UTF-8; surrogates that stand for bytes become those again."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _shape_errors(
    source: Source, instructions: Sequence[ast.Instruction]
) -> list[DockerfileSyntaxError]:
    """Return what is wrong with a file whose instructions are right, each of them."""
    if not source.logical:
        message = "file with no instructions"
        if not source.physical:
            message = "the Dockerfile cannot be empty"
        return [source.error(message, max(len(source.physical), 1))]
    for line, node in zip(source.logical, instructions, strict=True):
        if isinstance(node, ast.From):
            return []
        if not isinstance(node, ast.Arg):
            word = line.text.split(None, 1)[0].upper()
            hint = f"only ARG may stand above FROM, not {word}"
            return [source.error("no build stage in current context", *line.locate(0), hint)]
    return [source.error("no build stage: the Dockerfile has no FROM", len(source.physical))]


def parse_instruction(text: str, escape: str = "\\") -> ast.Instruction:
    """Return the one instruction in `text`, such as an image's ONBUILD trigger with its heredocs.

    Its span counts from the first line of `text`. Raises DockerfileSyntaxError.
    """
    source = read_one(text, escape, "trigger")
    if source.errors:
        raise source.errors[0]
    if len(source.logical) != 1:
        count = "no" if not source.logical else "more than one"
        raise source.error(f"{count} instruction in {shown(text)}", 1)
    return _instruction(source.logical[0], source)


def _instruction(line: LogicalLine, source: Source) -> ast.Instruction:
    try:
        node: object = _reader(source.directives.escape).parse(line.text, start="instruction")
    except UnknownFlag as flag:
        fault = diagnose.unknown_flag(line.text, flag.flag, flag.offset)
        raise _located(fault, line, source) from None
    except Misread as misread:
        raise _located(misread, line, source) from None
    except UnexpectedInput as error:
        fault = diagnose.explain(line.text, _where(error, line.text), _begin(error) or 0)
        raise _located(fault, line, source) from error
    assert isinstance(node, ast.Instruction), f"the grammar gave {node!r} for an instruction"
    return _placed(node, line, source)


def _placed(node: ast.Instruction, line: LogicalLine, source: Source) -> ast.Instruction:
    """Return `node` with what only its line knows."""
    if isinstance(node, ast.Onbuild):
        text = _ONBUILD.sub("", line.text, count=1)
        bodies = "".join(f"\n{doc.written}{doc.name}" for doc in line.heredocs)
        inner = _placed(
            node.instruction, replace(line, text=text, comments=(), policies=()), source
        )
        node = replace(node, instruction=inner, trigger=text + line.blanks + bodies)
    elif isinstance(node, ast.Run | ast.Copy | ast.Add):
        announced = [doc.name for doc in node.heredocs]
        if announced and announced != [doc.name for doc in line.heredocs]:
            fault = Misread("the heredoc delimiters cannot be told apart", 0)
            raise _located(fault, line, source)
        node = replace(node, heredocs=line.heredocs)
    try:
        policies = read_policies(line.policies, type(node).__name__.upper())
    except BadPolicy as fault:
        raise source.error(fault.message, fault.line, fault.column, fault.hint) from None
    return replace(node, span=line.span, text=line.text, comments=line.comments, policies=policies)


def _located(fault: Misread, line: LogicalLine, source: Source) -> DockerfileSyntaxError:
    return source.error(fault.message, *line.locate(fault.offset), fault.hint)


@cache
def _reader(escape: str) -> Lark:
    """Return the parser of instructions for one escape character."""

    return make_reader(_GRAMMAR, escape, callbacks(escape, _mount_fields))


def _mount_fields(value: str) -> Sequence[str]:
    """Return the fields of a --mount value. Raises ValueError."""
    try:
        fields: object = _reader("\\").parse(value, start="mount")
    except UnexpectedInput as error:
        at = _where(error, value)
        cause = f"unexpected {shown(value[at : at + 10])}" if value[at:] else "it ends early"
        raise ValueError(cause) from error
    assert isinstance(fields, list)
    return fields


def _where(error: UnexpectedInput, text: str) -> int:
    """Return the offset in `text` at which the parser gave up."""
    ended = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    begin = _begin(error)
    return len(text) if ended or begin is None else begin


def _begin(error: UnexpectedInput) -> int | None:
    """Return where the error's terminal begins; the end of the text has its last one's place."""
    begin: int | None = getattr(error, "pos_in_stream", None)  # Lark declares it as None only
    return begin
