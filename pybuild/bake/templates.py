"""Text with `${…}` and `%{…}` in it, cut into parts. What is between the braces others parse.

Source: the HCL native syntax specification, "Templates".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from pybuild.bake.syntax import Attr, Expr, ForPart, IfPart, Literal, Name, Part, Place, Template
from values.classes import dataclass

ParseExpression = Callable[[str, Place], Expr]

_OPEN = re.compile(r"\$\$\{|%%\{|\$\{|%\{")
_PATH = re.compile(r"\s*([A-Za-z_][\w-]*)((?:\.[A-Za-z_][\w-]*)*)\s*")
_FOR = re.compile(r"for\s+([\w-]+)\s*(?:,\s*([\w-]+)\s*)?in\s+(.*)", re.DOTALL)
_WORDS = ("true", "false", "null")


@dataclass(frozen=True, slots=True)
class _Directive:
    """`%{ text }`."""

    text: str


def parse_template(text: str, place: Place, parse: ParseExpression) -> Expr:
    """Return text with its interpolations parsed; a Literal where there are none.

    Raises BakeError.
    """
    if not _OPEN.search(text):
        return Literal(text, place)
    pieces = list(_pieces(text, place, parse))
    parts, rest = _assembled(pieces, place, parse, ())
    assert not rest, "everything is taken or refused"
    if len(parts) == 1 and isinstance(parts[0], str):
        return Literal(parts[0], place)
    return Template(parts, place)


def simple_path(text: str, place: Place) -> Expr | None:
    """Return the expression `a` or `a.b.c`, None for any other: that needs a whole parser."""
    found = _PATH.fullmatch(text)
    if found is None or found[1] in _WORDS:
        return None
    expr: Expr = Name(found[1], place)
    for name in filter(None, found[2].split(".")):
        expr = Attr(expr, name, place)
    return expr


def spans(text: str, place: Place) -> Iterator[tuple[int, int]]:
    """Yield where `${…}` and `%{…}` begin and end. Raises BakeError."""
    at = 0
    while (found := _OPEN.search(text, at)) is not None:
        at = found.end()
        if found[0] in ("${", "%{"):
            at = _closing(text, at, place) + 1
            yield found.start(), at


def _pieces(text: str, place: Place, parse: ParseExpression) -> Iterator[str | Expr | _Directive]:
    at, trim = 0, False
    while True:
        found = _OPEN.search(text, at)
        literal = text[at : found.start()] if found else text[at:]
        literal = literal.lstrip() if trim else literal
        trim = False
        if found is None:
            yield literal
            return
        if found[0] in ("$${", "%%{"):
            yield literal + found[0][1:]
            at = found.end()
            continue
        end = _closing(text, found.end(), place)
        inner = text[found.end() : end]
        if inner.startswith("~"):
            literal, inner = literal.rstrip(), inner[1:]
        if inner.endswith("~"):
            inner, trim = inner[:-1], True
        yield literal
        yield parse(inner, place) if found[0] == "${" else _Directive(inner.strip())
        at = end + 1


def _closing(text: str, at: int, place: Place) -> int:
    """Return where the brace that was opened before `at` is closed."""
    depth, quoted = 1, False
    stack: list[bool] = []  # of the strings around an interpolation
    while at < len(text):
        letter = text[at]
        if quoted:
            if letter == "\\":
                at += 1
            elif letter == '"':
                quoted = False
            elif text.startswith(("${", "%{"), at):
                stack.append(True)
                quoted, depth, at = False, depth + 1, at + 1
        elif letter == '"':
            quoted = True
        elif letter == "{":
            stack.append(False)
            depth += 1
        elif letter == "}":
            depth -= 1
            if depth == 0:
                return at
            quoted = stack.pop()
        at += 1
    raise place.error("a template is not closed", "each ${ and %{ needs its }")


def _assembled(
    pieces: list[str | Expr | _Directive],
    place: Place,
    parse: ParseExpression,
    ends: tuple[str, ...],
) -> tuple[tuple[Part, ...], str]:
    """Return parts up to one of `ends`, and which it was; takes them from `pieces`."""
    parts: list[Part] = []
    while pieces:
        piece = pieces.pop(0)
        if not isinstance(piece, _Directive):
            if piece != "":
                parts.append(piece)
            continue
        word = piece.text.split(None, 1)[0] if piece.text else ""
        if word in ends:
            return tuple(parts), word
        if word == "if":
            condition = parse(piece.text[2:], place)
            yes, end = _assembled(pieces, place, parse, ("else", "endif"))
            no: tuple[Part, ...] = ()
            if end == "else":
                no, _ = _assembled(pieces, place, parse, ("endif",))
            parts.append(IfPart(condition, yes, no))
            continue
        loop = _FOR.fullmatch(piece.text)
        if loop is None:
            raise place.error(f'unexpected template directive "{piece.text}"')
        key, item = (loop[1], loop[2]) if loop[2] else ("", loop[1])
        of = parse(loop[3], place)
        body, _ = _assembled(pieces, place, parse, ("endfor",))
        parts.append(ForPart(key, item, of, body))
    if ends:
        raise place.error(f"a template lacks its {ends[-1]}")
    return tuple(parts), ""
