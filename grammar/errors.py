"""What can be wrong with text.

GrammarError
├── DockerfileSyntaxError   a Dockerfile, at a line and mostly a column
├── ExpansionError          a word with variables
└── PatternError            a wildcard pattern, alone or in an ignore file
"""

import json

_WINDOW = 100


def printable(line: str) -> str:
    """Return a line as a terminal may have it: without what moves the cursor, but with tabs."""
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in line)


def shown(text: str) -> str:
    """Return text in double quotes for a one-line message, its end left out if it is long."""
    short = text if len(text) <= 60 else text[:57] + "…"
    return json.dumps(short, ensure_ascii=False)


def _printable(text: str) -> str:
    """Return text without the surrogates that stand for bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class GrammarError(Exception):
    """Some text is not what its grammar allows. `hint` says what to do, where that is known."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = _printable(message)
        self.hint = None if hint is None else _printable(hint)
        super().__init__(self.message)


class DockerfileSyntaxError(GrammarError):
    """A Dockerfile does not parse.

    line: from 1. column: from 1, in characters, or None where a whole line is meant.
    source_line: that physical line, without its end. errors: all that is wrong with the file, this
    one the first.
    """

    def __init__(
        self,
        message: str,
        *,
        name: str,
        line: int,
        column: int | None = None,
        source_line: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        where = f"{name}:{line}" if column is None else f"{name}:{line}:{column}"
        self.args = (_printable(f"{where}: {message}"),)
        self.name = name
        self.line = line
        self.column = column
        self.source_line = source_line
        self.errors: tuple[DockerfileSyntaxError, ...] = (self,)

    def render(self) -> str:
        """Return the error for a person: the message with its hint, the source line, a caret.

        Only this one of `errors`.
        """
        head = f"{self} ({self.hint})" if self.hint else str(self)
        if not self.source_line.strip():
            return head
        shown, at = self._window()
        if at is None:
            return f"{head}\n  {shown}"
        # Tabs stay tabs, so that the caret stands under its character at any tab width.
        pad = "".join(char if char == "\t" else " " for char in shown[:at])
        return f"{head}\n  {shown}\n  {pad}^"

    def _window(self) -> tuple[str, int | None]:
        """Return the part of the source line worth showing and the caret's index in it."""
        at = None if self.column is None else self.column - 1
        begin = max(0, (at or 0) - _WINDOW // 2) if len(self.source_line) > _WINDOW else 0
        part = self.source_line[begin : begin + _WINDOW]
        return printable(part), None if at is None else at - begin


class ExpansionError(GrammarError):
    """A word cannot be expanded: bad `${…}`, an open quote, or `${name:?message}`."""


class PatternError(GrammarError):
    """A wildcard pattern is malformed. `line` is its line in an ignore file, else None."""

    def __init__(self, message: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line = line
