r"""Go's templates, as `--format` has them.

Fields, pipelines, parentheses, variables, `range`, `if`, `with`, `break`, `continue`, comments and
the trim marks `{{-` and `-}}`; the functions are in `templatefunctions`. `define`, `template` and
`block` are refused: docker's templates have no names.
Source: Go text/template; docker's `templates` package.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, Sequence

from pybuild.cli.templatefunctions import (
    FUNCTIONS,
    NIL_MAP,
    Struct,
    is_true,
    shown,
    text_of,
    to_json,
)
from pybuild.errors import NotSupported, UsageError
from values.classes import dataclass

__all__ = ["Template", "to_json"]

_ACTION = re.compile(r"(\{\{-?\s?.*?-?\}\})", re.DOTALL)
_WORD = re.compile(
    r"""\s*(:=|\||=|,|\(|\)|"(?:[^"\\]|\\.)*"|`[^`]*`|'(?:[^'\\]|\\.)+'|[^\s|"`'(),=]+)"""
)
_REFUSED = frozenset({"block", "define", "template"})
_ESCAPES = {r"\t": "\t", r"\n": "\n"}
_LITERALS = {"true": True, "false": False, "nil": None}


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Value:
    """An action: a pipeline, and the variables that take its result instead of the output.

    declares: the variables are new ones (`:=`).
    """

    token: str
    words: tuple[str, ...]
    variables: tuple[str, ...] = ()
    declares: bool = True


@dataclass(frozen=True, slots=True)
class _Block:
    """`range`, `if` or `with`: its pipeline, what it holds and what stands after else."""

    kind: str
    value: _Value
    body: tuple[_Node, ...]
    otherwise: tuple[_Node, ...]


_Node = _Text | _Value | _Block
_Names = ChainMap[str, object]


class _Break(Exception):
    """{{break}}"""


class _Continue(Exception):
    """{{continue}}"""


class Template:
    """A parsed template. Raises UsageError, and NotSupported for what Go can and this cannot."""

    def __init__(self, text: str) -> None:
        parts = [p for p in _trimmed(_ACTION.split(text)) if p and not _is_comment(p)]
        self._tokens = parts
        self._nodes, rest = self._parse(0, nested=False)
        if rest < len(self._tokens):
            raise UsageError(f"format: unexpected {self._tokens[rest]}")

    def render(self, value: object) -> str:
        """Return the text for `value`, whose fields are the keys of mappings."""
        out: list[str] = []
        _Run(out).nodes(self._nodes, value, ChainMap({"$": value}))
        return "".join(out)

    def _parse(self, at: int, *, nested: bool) -> tuple[tuple[_Node, ...], int]:
        """Return the nodes from token `at` on, and the token that ended them."""
        nodes: list[_Node] = []
        while at < len(self._tokens):
            token = self._tokens[at]
            words = _words(token)
            if words is None:
                if "{{" in token:
                    raise UsageError(f"format: {token[token.index('{{') :]}: unclosed action")
                nodes.append(_Text(_unescaped(token)))
            elif words[0] in _REFUSED:
                raise NotSupported(f"format: {token}: not supported yet")
            elif words[0] in ("end", "else"):
                if not nested:
                    raise UsageError(f"format: unexpected {token}")
                return tuple(nodes), at
            elif words[0] in ("range", "if", "with"):
                block, at = self._block(words, at)
                nodes.append(block)
            else:
                nodes.append(_value(token, words))
            at += 1
        if nested:
            raise UsageError("format: {{end}} is missing")
        return tuple(nodes), at

    def _block(self, words: tuple[str, ...], at: int) -> tuple[_Block, int]:
        value = _value(self._tokens[at], words[1:])
        body, at = self._parse(at + 1, nested=True)
        otherwise: tuple[_Node, ...] = ()
        ending = _words(self._tokens[at]) or ()
        if ending[:1] == ("else",) and len(ending) > 1:
            other, at = self._block(ending[1:], at)  # its {{end}} is ours too
            otherwise = (other,)
        elif ending == ("else",):
            otherwise, at = self._parse(at + 1, nested=True)
        return _Block(words[0], value, body, otherwise), at


def _trimmed(parts: Sequence[str]) -> list[str]:
    """Take the white space beside `{{- ` and ` -}}` away, and the marks."""
    out = list(parts)
    for at in range(1, len(out), 2):
        if re.match(r"\{\{-\s", out[at]):
            out[at - 1] = out[at - 1].rstrip()
            out[at] = "{{" + out[at][3:]
        if re.search(r"\s-\}\}\Z", out[at]):
            out[at + 1] = out[at + 1].lstrip()
            out[at] = out[at][:-3] + "}}"
    return out


def _is_comment(token: str) -> bool:
    return bool(re.match(r"\{\{\s*/\*.*\*/\s*\}\}\Z", token, re.DOTALL))


def _unescaped(text: str) -> str:
    """Docker's lists take \\t and \\n in the text of a template for what they mean."""
    for escape, meant in _ESCAPES.items():
        text = text.replace(escape, meant)
    return text


def _words(token: str) -> tuple[str, ...] | None:
    """Return the words of an action, None when `token` is plain text."""
    if not (token.startswith("{{") and token.endswith("}}")):
        return None
    body = token[2:-2].strip()
    if not body:
        raise UsageError("format: {{}} is empty")
    words, at = [], 0
    while at < len(body):
        match = _WORD.match(body, at)
        if match is None:
            raise UsageError(f"format: {token}: cannot be read from {body[at:]!r} on")
        words.append(match.group(1))
        at = match.end()
    return tuple(words)


def _value(token: str, words: tuple[str, ...]) -> _Value:
    """Return an action, `$a := ` or `$a, $b := ` before its pipeline taken off."""
    variables: tuple[str, ...] = ()
    declares = True
    if words and words[0].startswith("$"):
        for count in (1, 3):
            if words[count : count + 1] in ((":=",), ("=",)):
                declares = words[count] == ":="
                variables, words = words[:count:2], words[count + 1 :]
                break
    if not words:
        raise UsageError(f"format: {token}: a value is missing")
    return _Value(token, words, variables, declares)


class _Run:
    """One rendering."""

    def __init__(self, out: list[str]) -> None:
        self._out = out

    def nodes(self, nodes: Sequence[_Node], dot: object, names: _Names) -> None:
        for node in nodes:
            match node:
                case _Text(text):
                    self._out.append(text)
                case _Value(words=("break",)):
                    raise _Break
                case _Value(words=("continue",)):
                    raise _Continue
                case _Value(_, _, variables) if variables:
                    _set(node, _Pipeline(node, dot, names).value(), names)
                case _Value():
                    self._out.append(shown(_Pipeline(node, dot, names).value()))
                case _Block("range"):
                    self._range(node, dot, names)
                case _Block():
                    self._choose(node, dot, names)

    def _choose(self, block: _Block, dot: object, names: _Names) -> None:
        value = _Pipeline(block.value, dot, names).value()
        inner = names.new_child()
        if block.value.variables:
            inner[block.value.variables[0]] = value
        if is_true(value):
            self.nodes(block.body, value if block.kind == "with" else dot, inner)
        else:
            self.nodes(block.otherwise, dot, inner)

    def _range(self, block: _Block, dot: object, names: _Names) -> None:
        pairs = _pairs(_Pipeline(block.value, dot, names).value())
        for key, value in pairs:
            inner = names.new_child()
            given = (key, value) if len(block.value.variables) == 2 else (value,)
            inner.update(zip(block.value.variables, given, strict=False))
            try:
                self.nodes(block.body, value, inner)
            except _Continue:
                continue
            except _Break:
                break
        if not pairs:
            self.nodes(block.otherwise, dot, names.new_child())


def _set(node: _Value, value: object, names: _Names) -> None:
    """Give a variable its value: a new one here, an old one where it was made."""
    name = node.variables[0]
    scopes = [names.maps[0]] if node.declares else [s for s in names.maps if name in s]
    if not scopes:
        raise UsageError(f"format: {node.token}: undefined variable {name}")
    scopes[0][name] = value


class _Pipeline:
    """The words of one pipeline, read from left to right."""

    def __init__(self, node: _Value, dot: object, names: _Names) -> None:
        self._token, self._words = node.token, node.words
        self._dot, self._names = dot, names
        self._at = 0

    def value(self) -> object:
        """Return what the whole pipeline gives."""
        value = self._pipeline()
        if self._at < len(self._words):
            raise UsageError(f"format: {self._token}: unexpected {self._words[self._at]}")
        return value

    def _pipeline(self) -> object:
        """Each command gets the former one's result as its last argument."""
        value = self._command([])
        while self._peek() == "|":
            self._at += 1
            value = self._command([value])
        return value

    def _peek(self) -> str | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def _command(self, carried: list[object]) -> object:
        head = self._peek()
        if head is None or head in ("|", ")"):
            raise UsageError(f"format: {self._token}: a pipe leads nowhere")
        if re.match(r"[A-Za-z_]", head) and head not in _LITERALS:
            self._at += 1
            arguments = [*self._operands(), *carried]
            return self._call(head, arguments)
        value, *rest = self._operands()
        if rest or carried:
            raise UsageError(f"format: {self._token}: {head} is no function")
        return value

    def _operands(self) -> list[object]:
        values = []
        while self._peek() not in (None, "|", ")"):
            values.append(self._operand())
        return values

    def _operand(self) -> object:
        word = self._words[self._at]
        self._at += 1
        if word == "(":
            value = self._pipeline()
            if self._peek() != ")":
                raise UsageError(f"format: {self._token}: a parenthesis is not closed")
            self._at += 1
            following = self._peek() or ""
            if following.startswith(".") and len(following) > 1:
                self._at += 1
                return self._fields(value, following)
            return value
        return self._literal(word)

    def _literal(self, word: str) -> object:
        if word[0] in "\"`'":
            return text_of(word)
        if word in _LITERALS:
            return _LITERALS[word]
        if re.fullmatch(r"[-+]?[0-9]+", word):
            return int(word)
        if word.startswith("$"):
            name, dot, path = word.partition(".")
            if name not in self._names:
                raise UsageError(f"format: {self._token}: undefined variable {name}")
            return self._fields(self._names[name], dot + path)
        if word.startswith("."):
            return self._fields(self._dot, word)
        if word in FUNCTIONS:
            return self._call(word, [])
        raise UsageError(f'format: {self._token}: "{word}" is not understood')

    def _fields(self, value: object, path: str) -> object:
        for name in filter(None, path.split(".")):
            if isinstance(value, Struct):
                value = value.field(name, self._token, path)
            elif isinstance(value, Mapping) and name in value:
                value = value[name]
            elif value is NIL_MAP:
                value = ""
            else:
                raise UsageError(f"format: {path}: there is no field {name}")
        return value

    def _call(self, name: str, arguments: list[object]) -> object:
        function = FUNCTIONS.get(name)
        if function is None:
            raise UsageError(f'format: function "{name}" not defined')
        try:
            return function(*arguments)
        except (TypeError, LookupError, ValueError) as error:
            raise UsageError(f"format: {' '.join(self._words)}: {error}") from error


def _pairs(value: object) -> list[tuple[object, object]]:
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(value)]
    return list(enumerate(value)) if isinstance(value, list | tuple) else []
