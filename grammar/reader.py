"""Lark parsers for the two grammars, made ready for one escape character."""

import re
from collections.abc import Set
from importlib.resources import files

from grammar import tables
from grammar.generator import Lark, PatternRE, TerminalDef
from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar file of this package.

    escaping: the terminals in which "\\" is the Dockerfile's escape character, and not JSON's or
    the shell's.
    """

    file: str
    start: tuple[str, ...]
    escaping: Set[str]


def make_reader(grammar: Grammar, escape: str, callbacks: object) -> Lark:
    """Return the parser of `grammar` for one escape character; `callbacks` has its rules."""

    def exchange(terminal: TerminalDef) -> None:
        if terminal.name in grammar.escaping and isinstance(terminal.pattern, PatternRE):
            value = terminal.pattern.value.replace(r"\\", re.escape(escape))
            terminal.pattern = PatternRE(value, terminal.pattern.flags)

    folder = tables.folder()
    usual = escape == "\\"
    # Lark cannot keep tables whose terminals were exchanged.
    kept = f"{folder}/{grammar.file}" if folder and usual else False
    return Lark(
        files("grammar").joinpath(grammar.file).read_text("utf-8"),
        parser="lalr",
        lexer="contextual",
        start=list(grammar.start),
        maybe_placeholders=True,
        transformer=callbacks,
        edit_terminals=None if usual else exchange,
        cache=kept,
    )
