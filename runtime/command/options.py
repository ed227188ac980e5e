"""Command lines as runc reads them: Go's flags, one dash or two, `=` or the next word.

No argparse: it takes as long to import as the rest of the program.
"""

from runtime.errors import RuntimeFailure

# long name -> (short name or empty, kind): kind is flag, text, number or many
Options = dict[str, tuple[str, str]]


class UsageError(RuntimeFailure):
    """The command line is none of ours."""


class Parsed:
    """A command line taken apart: values by long name, and the words that are no option."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.words: list[str] = []

    def flag(self, name: str) -> bool:
        """Tell whether the flag is set."""
        return self.values.get(name, "false") != "false"

    def text(self, name: str, default: str = "") -> str:
        """Return the value of an option."""
        return self.values.get(name, default)

    def number(self, name: str, default: int = 0) -> int:
        """Return the value of a number's option."""
        return int(self.values[name]) if name in self.values else default

    def many(self, name: str) -> "list[str]":
        """Return the values of an option that may be repeated."""
        return self.lists.get(name, [])


def parse(
    words: "list[str]", options: Options, *, interspersed: bool = True, what: str = ""
) -> Parsed:
    """Take `words` apart. Raises UsageError.

    interspersed: options may follow the first word that is none.
    """
    parsed = Parsed()
    names = {short: name for name, (short, _) in options.items() if short}
    todo = words[::-1]
    while todo:
        word = todo.pop()
        if word == "--":
            parsed.words += todo[::-1]
            break
        if not word.startswith("-") or word == "-":
            parsed.words.append(word)
            if not interspersed:
                parsed.words += todo[::-1]
                break
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = names.get(name, name)
        if name not in options:
            raise UsageError(f"{what}flag provided but not defined: {word.partition('=')[0]}")
        kind = options[name][1]
        if not equals:
            if kind != "flag" and not todo:
                raise UsageError(f"{what}flag needs an argument: {word}")
            value = "true" if kind == "flag" else todo.pop()
        _set(parsed, name, kind, value)
    return parsed


def _set(parsed: Parsed, name: str, kind: str, value: str) -> None:
    if kind == "flag" and value not in ("true", "false", "1", "0", "t", "f"):
        raise UsageError(f"--{name}: {value!r} is neither true nor false")
    if kind == "number" and not (value.isascii() and value.isdigit()):
        raise UsageError(f"--{name}: {value!r} is no number")
    if kind == "flag":
        value = "true" if value in ("true", "1", "t") else "false"
    if kind == "many":
        parsed.lists.setdefault(name, []).append(value)
    else:
        parsed.values[name] = value
