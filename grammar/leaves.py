"""Matches of the grammar's smallest rules: flags, words, pairs, commands.

Owns what such a match means beyond its shape: the quotes of a flag's value, the strings of a JSON
array. Refuses to know instructions.
"""

import json
import re
from collections.abc import Sequence
from typing import NoReturn, Protocol

from grammar import ast
from grammar.errors import shown
from values.classes import dataclass

_BLANKS = re.compile(r"[\t\v\f\r ]+")
_HEREDOC = re.compile(r"\d*<<-?+[^<]+")
_SURROGATES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


class Token(Protocol):
    """A terminal's match: a str that knows where it begins in the logical line."""

    start_pos: int | None

    def __str__(self) -> str: ...


class Misread(Exception):
    """What stands at `offset` of the logical line matches the grammar and is wrong all the same."""

    def __init__(self, message: str, offset: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.hint = hint


class UnknownFlag(Misread):
    """A flag that the instruction, whose name only the line's reader knows, does not have."""

    def __init__(self, flag: str, offset: int) -> None:
        super().__init__(f"unknown flag --{flag}", offset)
        self.flag = flag


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag as given. `value` is unquoted, None without `=`."""

    name: str
    value: str | None
    offset: int


@dataclass(frozen=True, slots=True)
class Word:
    """One argument and whether it announces a here-document."""

    text: str
    offset: int
    heredoc: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """One `key=value`, or `key` alone, or, in a legacy pair, `key value`."""

    key: str
    value: str | None
    offset: int
    legacy: bool = False


class Leaves:
    """The parser's callbacks for one escape character."""

    def __init__(self, escape: str) -> None:
        mark = re.escape(escape)
        self._quoted = re.compile(
            rf"""'((?:[^'{mark}]|{mark}.)*)'|"((?:[^"{mark}]|{mark}.)*)"|{mark}(.?)""", re.DOTALL
        )
        self._escaped = re.compile(rf"{mark}(.?)", re.DOTALL)

    # --- flags

    def text_flag(self, children: Sequence[Token]) -> Flag:
        """Return a flag that must have a value, which may be empty."""
        flag = self._flag(children)
        if flag.value is None:
            raise Misread(
                f"flag --{flag.name} needs a value", flag.offset, f"write --{flag.name}=…"
            )
        return flag

    def mount_flag(self, children: Sequence[Token]) -> Flag:
        """Return a --mount, its value still one piece."""
        return self.text_flag(children)

    def switch_flag(self, children: Sequence[Token]) -> Flag:
        """Return a flag that stands alone or has the value true or false."""
        flag = self._flag(children)
        if flag.value == "":
            raise Misread(f"flag --{flag.name} needs a value after =", flag.offset)
        if flag.value is not None and flag.value.lower() not in ("true", "false"):
            message = f"flag --{flag.name} is true or false, not {shown(flag.value)}"
            raise Misread(message, flag.offset)
        return flag

    def unknown_flag(self, children: Sequence[Token]) -> NoReturn:
        """Raise UnknownFlag: any other word that begins with `--` before the arguments."""
        raise UnknownFlag(str(children[0])[2:], _offset(children[0]))

    def _flag(self, children: Sequence[Token]) -> Flag:
        name, offset = str(children[0])[2:], _offset(children[0])
        if len(children) == 1:
            return Flag(name, None, offset)
        raw = str(children[1])[1:]
        value = self._unquote(raw)
        if value is None:
            raise Misread(f"unterminated quote in the value of --{name}", _offset(children[1]) + 1)
        return Flag(name, value, offset)

    def _unquote(self, raw: str) -> str | None:
        """Return `raw` without quotes and escapes, or None if a quote stays open."""

        def bare(match: re.Match[str]) -> str:
            single, double, escaped = match.groups()
            if escaped is not None:
                return escaped
            return self._escaped.sub(r"\1", double if single is None else single)

        rest = self._quoted.sub("", raw)
        return None if "'" in rest or '"' in rest else self._quoted.sub(bare, raw)

    # --- commands and words

    def exec_form(self, children: Sequence[Token]) -> ast.ExecForm:
        """Return the command of a JSON array."""
        return ast.ExecForm(_json_strings(str(children[0])))

    def shell_form(self, children: Sequence[Token]) -> ast.ShellForm:
        """Return a command that the shell gets as text."""
        refuse_array(str(children[0]), _offset(children[0]))
        return ast.ShellForm(str(children[0]))

    def lone_heredoc(self, children: Sequence[Token]) -> Word:
        """Return the delimiter that is the whole of a RUN."""
        return Word(str(children[0]), _offset(children[0]), heredoc=True)

    def exec_list(self, children: Sequence[Token]) -> list[Word]:
        """Return the words of a JSON array."""
        offset = _offset(children[0])
        return [Word(text, offset) for text in _json_strings(str(children[0]))]

    def bracketed_list(self, children: Sequence[Token]) -> list[Word]:
        """Return the words of what begins like a JSON array and is none."""
        text, offset = str(children[0]), _offset(children[0])
        refuse_array(text, offset)
        return [
            Word(word, offset, heredoc=_HEREDOC.fullmatch(word) is not None)
            for word in _BLANKS.split(text)
        ]

    def word(self, children: Sequence[Token]) -> list[Word]:
        """Return one word, in a list as the others come."""
        return [Word(str(children[0]), _offset(children[0]))]

    image = operand = word

    def heredoc(self, children: Sequence[Token]) -> list[Word]:
        """Return one here-document delimiter among the sources of COPY or ADD."""
        return [Word(str(children[0]), _offset(children[0]), heredoc=True)]

    def text(self, children: Sequence[Token]) -> str:
        """Return the rest of the line."""
        return str(children[0])

    def pair(self, children: Sequence[Token]) -> Pair:
        """Return `key=value`, split at the first `=`."""
        key, _, value = str(children[0]).partition("=")
        return Pair(key, value, _offset(children[0]))

    def name(self, children: Sequence[Token]) -> Pair:
        """Return a key that stands alone."""
        return Pair(str(children[0]), None, _offset(children[0]))

    def legacy_pair(self, children: Sequence[Token]) -> Pair:
        """Return `key value`, where the value is the rest of the line."""
        return Pair(str(children[0]), str(children[1]), _offset(children[0]), legacy=True)

    # --- the value of --mount

    def mount(self, children: Sequence[str]) -> Sequence[str]:
        """Return the fields of a --mount."""
        return children

    def mount_option(self, children: Sequence[Token]) -> str:
        """Return one field of a --mount without its CSV quotes."""
        text = str(children[0])
        return text[1:-1].replace('""', '"') if text.startswith('"') else text


def refuse_array(text: str, offset: int) -> None:
    """Raise Misread if `text` is valid JSON, an array, and so holds something else than strings.

    Text that is no valid JSON is shell form. Source: Dockerfile reference, "Shell and exec form".
    """
    if not text.startswith("["):
        return
    try:
        value = json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return
    if isinstance(value, list):
        raise Misread("an array in JSON form must hold strings only", offset)


def _not_json(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are Python's addition


def _json_strings(array: str) -> tuple[str, ...]:
    # Go reads an escaped half of a surrogate pair as U+FFFD; Python would keep half a character.
    whole = _SURROGATES.sub(lambda m: r"\ufffd" if m["lone"] else m[0], array)
    return tuple(str(item) for item in json.loads(whole))


def _offset(token: Token) -> int:
    return token.start_pos or 0
