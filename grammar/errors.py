"""What can be wrong with text.

GrammarError
├── DockerfileSyntaxError   a Dockerfile, at a line and mostly a column
├── ExpansionError          a word with variables
└── PatternError            a wildcard pattern, alone or in an ignore file
"""

_WINDOW = 100


class GrammarError(Exception):
    """Some text is not what its grammar allows. `hint` says what to do, where that is known."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DockerfileSyntaxError(GrammarError):
    """A Dockerfile does not parse.

    line: from 1. column: from 1, in characters, or None where a whole line is meant.
    source_line: that physical line, without its end.
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
        where = f"{name}:{line}" if column is None else f"{name}:{line}:{column}"
        Exception.__init__(self, f"{where}: {message}")
        self.message = message
        self.hint = hint
        self.name = name
        self.line = line
        self.column = column
        self.source_line = source_line

    def render(self) -> str:
        """Return the error for a person: the message with its hint, the source line, a caret."""
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
        shown = "".join(char if char.isprintable() or char == "\t" else "?" for char in part)
        return shown, None if at is None else at - begin


class ExpansionError(GrammarError):
    """A word cannot be expanded: bad `${…}`, an open quote, or `${name:?message}`."""


class PatternError(GrammarError):
    """A wildcard pattern is malformed. `line` is its line in an ignore file, else None."""

    def __init__(self, message: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line = line
