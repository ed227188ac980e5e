r"""The part of Go's templates that people use with `--format`.

`{{.Path.To.Field}}`, `{{json .X}}`, `{{index .List 0}}`, `{{index .Map "key"}}`, `{{len .X}}`,
`{{join .List ","}}`, `{{upper .X}}`, `{{lower .X}}`, `{{title .X}}`, `{{println .X}}`, pipes,
`{{range .X}}…{{end}}`, `{{if .X}}…{{else}}…{{end}}`. Everything else is refused.
Source: text/template; docker's `formatter` functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pybuild.errors import NotSupported, UsageError

_ACTION = re.compile(r"(\{\{.*?\}\})", re.DOTALL)
_WORD = re.compile(r'\s*(\||"(?:[^"\\]|\\.)*"|`[^`]*`|[^\s|"`]+)')
_REFUSED = frozenset({"with", "block", "define", "template", "break", "continue"})
_ESCAPES = {r"\t": "\t", r"\n": "\n"}


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Value:
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    """`range` or `if`: the words of its condition, what it holds and what stands after else."""

    kind: str
    words: tuple[str, ...]
    body: tuple[_Node, ...]
    otherwise: tuple[_Node, ...]


_Node = _Text | _Value | _Block


class Template:
    """A parsed template. Raises UsageError, and NotSupported for what Go can and this cannot."""

    def __init__(self, text: str) -> None:
        for escape, meant in _ESCAPES.items():
            text = text.replace(escape, meant)
        self._tokens = [part for part in _ACTION.split(text) if part]
        self._nodes, rest = self._parse(0, nested=False)
        if rest < len(self._tokens):
            raise UsageError(f"format: unexpected {self._tokens[rest]}")

    def render(self, value: object) -> str:
        """Return the text for `value`, whose fields are the keys of mappings."""
        return _render(self._nodes, value)

    def _parse(self, at: int, *, nested: bool) -> tuple[tuple[_Node, ...], int]:
        """Return the nodes from token `at` on, and the token that ended them."""
        nodes: list[_Node] = []
        while at < len(self._tokens):
            token = self._tokens[at]
            words = _words(token)
            if words is None:
                nodes.append(_Text(token))
            elif words[0] in _REFUSED:
                raise NotSupported(f"format: {token}: not supported yet")
            elif words[:1] in (("end",), ("else",)):
                if not nested:
                    raise UsageError(f"format: unexpected {token}")
                return tuple(nodes), at
            elif words[:1] in (("range",), ("if",)):
                block, at = self._block(words, at)
                nodes.append(block)
            else:
                nodes.append(_Value(words))
            at += 1
        if nested:
            raise UsageError("format: {{end}} is missing")
        return tuple(nodes), at

    def _block(self, words: tuple[str, ...], at: int) -> tuple[_Block, int]:
        body, at = self._parse(at + 1, nested=True)
        otherwise: tuple[_Node, ...] = ()
        if _words(self._tokens[at]) == ("else",):
            otherwise, at = self._parse(at + 1, nested=True)
        return _Block(words[0], words[1:], body, otherwise), at


def _words(token: str) -> tuple[str, ...] | None:
    """Return the words of an action, None when `token` is plain text."""
    if not (token.startswith("{{") and token.endswith("}}")):
        return None
    if token.startswith("{{-") or token.endswith("-}}"):
        raise NotSupported("format: {{- and -}}: not supported yet")
    body = token[2:-2].strip()
    if not body:
        raise UsageError("format: {{}} is empty")
    return tuple(match.group(1) for match in _WORD.finditer(body))


def _render(nodes: Sequence[_Node], value: object) -> str:
    out = []
    for node in nodes:
        match node:
            case _Text(text):
                out.append(text)
            case _Value(words):
                out.append(_show(_evaluate(words, value)))
            case _Block("range", words, body, otherwise):
                items = _items(_evaluate(words, value))
                out += [_render(body, item) for item in items] or [_render(otherwise, value)]
            case _Block(_, words, body, otherwise):
                out.append(_render(body if _evaluate(words, value) else otherwise, value))
    return "".join(out)


def _evaluate(words: Sequence[str], value: object) -> object:
    """Return what a pipeline gives: each part gets the former's result as its last argument."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            parts.append([])
        else:
            parts[-1].append(word)
    carried: list[object] = []
    for part in parts:
        if not part:
            raise UsageError("format: a pipe leads nowhere")
        carried = [_call(part, value, carried)]
    return carried[0]


def _call(words: Sequence[str], value: object, carried: list[object]) -> object:
    head = words[0]
    if head.startswith((".", '"', "`")) or head.lstrip("-").isdecimal():
        if len(words) > 1 or carried:
            raise NotSupported(f"format: {' '.join(words)}: not supported yet")
        return _operand(head, value)
    function = _FUNCTIONS.get(head)
    if function is None:
        raise NotSupported(f'format: function "{head}": not supported yet')
    arguments = [*(_operand(word, value) for word in words[1:]), *carried]
    try:
        return function(*arguments)
    except (TypeError, LookupError, ValueError) as error:
        raise UsageError(f"format: {' '.join(words)}: {error}") from error


def _operand(word: str, value: object) -> object:
    if word.startswith('"'):
        return json.loads(word)
    if word.startswith("`"):
        return word[1:-1]
    if word.lstrip("-").isdecimal():
        return int(word)
    if not word.startswith("."):
        raise NotSupported(f"format: {word}: not supported yet")
    for name in filter(None, word.split(".")):
        if not isinstance(value, Mapping):
            raise UsageError(f"format: {word}: there is no field {name}")
        if name not in value:
            raise UsageError(f"format: {word}: there is no field {name}")
        value = value[name]
    return value


def _items(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return [value[key] for key in sorted(value)]
    return list(value) if isinstance(value, list | tuple) else []


def _show(value: object) -> str:
    """Return a value as Go's fmt prints it."""
    match value:
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return "map[" + " ".join(f"{k}:{_show(value[k])}" for k in sorted(value)) + "]"
        case list() | tuple():
            return "[" + " ".join(map(_show, value)) + "]"
        case _:
            return str(value)


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif isinstance(value, list | tuple) and isinstance(key, int):
            value = value[key]
        else:
            raise TypeError(f"cannot index with {key!r}")
    return value


def _join(items: Sequence[object], separator: str) -> str:
    return separator.join(map(_show, items))


def _len(value: object) -> int:
    return len(value) if isinstance(value, Mapping | list | tuple | str) else 0


def to_json(value: object) -> str:
    """Return `value` as JSON on one line, as Go's encoder writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_FUNCTIONS: dict[str, Callable[..., object]] = {
    "json": to_json,
    "index": _index,
    "len": _len,
    "join": _join,
    "upper": lambda text: str(text).upper(),
    "lower": lambda text: str(text).lower(),
    "title": lambda text: str(text).title(),
    "println": lambda *values: " ".join(map(_show, values)) + "\n",
    "print": lambda *values: "".join(map(_show, values)),
}
