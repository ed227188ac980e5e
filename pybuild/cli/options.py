"""Reads the words of a command line the way docker's (pflag) does.

Owns the grammar of options: `--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`,
`-it` as a cluster, `--flag=false`, `--` ends the options. A verb declares a table (`Syntax`) and
gets typed values back. Refuses to know what any option means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

from pybuild.errors import NotSupported, UsageError
from values.classes import dataclass, field

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class Kind(Enum):
    """What an option takes: nothing, one value (the last one counts), many, or many `=values`."""

    FLAG = "flag"
    VALUE = "value"
    MANY = "many"
    PERHAPS = "perhaps"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a verb. `short` is a letter or empty; `metavar` names the value in the help."""

    name: str
    help: str
    kind: Kind = Kind.FLAG
    short: str = ""
    metavar: str = ""


def flag(name: str, help_text: str, short: str = "") -> Option:
    """Return an option that takes no value."""
    return Option(name, help_text, Kind.FLAG, short)


def value(name: str, metavar: str, help_text: str, short: str = "") -> Option:
    """Return an option that takes one value; given twice, the last one counts."""
    return Option(name, help_text, Kind.VALUE, short, metavar)


def many(name: str, metavar: str, help_text: str, short: str = "") -> Option:
    """Return an option that takes a value and may be given again."""
    return Option(name, help_text, Kind.MANY, short, metavar)


def perhaps(name: str, metavar: str, help_text: str) -> Option:
    """Return an option that may have a value after an equals sign, and may be given again."""
    return Option(name, help_text, Kind.PERHAPS, metavar=metavar)


@dataclass(frozen=True, slots=True)
class Syntax:
    """The command line of one verb.

    usage: what follows `pybuild ` in the usage line.
    at_least, at_most: how many arguments besides options; at_most None for any number.
    later: options docker knows and this version does not, as `name` or `name/letter` words.
    of_build: options of `build` that mean nothing to a verb that takes the others.
    options_first: options end at the first argument (`run`: the rest is the container's).
    """

    verb: str
    usage: str
    summary: str
    options: tuple[Option, ...] = ()
    at_least: int = 0
    at_most: int | None = 0
    later: str = ""
    of_build: frozenset[str] = frozenset()
    options_first: bool = False


@dataclass(slots=True)
class Parsed:
    """What a command line said. dashes: how many arguments stand before `--`, None without it."""

    arguments: list[str] = field(default_factory=list)
    dashes: int | None = None
    wants_help: bool = False
    _values: dict[str, list[str]] = field(default_factory=dict)

    def flag(self, name: str) -> bool:
        """Tell whether the flag `name` was given (and not as `=false`)."""
        return self._values.get(name, ["false"])[-1] == "true"

    def text(self, name: str) -> str | None:
        """Return the last value of `name`, None when it was not given."""
        values = self._values.get(name)
        return values[-1] if values else None

    def many(self, name: str) -> tuple[str, ...]:
        """Return every value of `name` in order."""
        return tuple(self._values.get(name, ()))

    def add(self, name: str, text: str) -> None:
        """Record one more value of `name`."""
        self._values.setdefault(name, []).append(text)


def parse(syntax: Syntax, words: Sequence[str]) -> Parsed:
    """Return what `words` (without the verb) say.

    Raises UsageError, and NotSupported for an option that docker has and this version does not.
    """
    reader = _Reader(syntax)
    parsed = reader.read(list(words))
    if not parsed.wants_help:
        _check_count(syntax, len(parsed.arguments))
    return parsed


def help_of(syntax: Syntax) -> str:
    """Return the help page of a verb."""
    lines = [f"Usage: pybuild {syntax.usage}", "", syntax.summary]
    if syntax.options:
        lines += ["", "Options:"]
        rows = [(_spelling(option), option.help) for option in syntax.options]
        width = max(len(left) for left, _ in rows)
        lines += [f"  {left:<{width}}  {right}" for left, right in rows]
    return "\n".join(lines) + "\n"


def suggestion(word: str, known: Sequence[str]) -> str | None:
    """Return the one of `known` that `word` was probably meant to be."""
    from difflib import get_close_matches  # 5 ms, for the unlucky only

    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return close[0] if close else None


def usage_error(syntax: Syntax, message: str, hint: str | None = None) -> UsageError:
    """Return a usage error that points at the verb's help."""
    return UsageError(f"{syntax.verb}: {message}", hint=hint or f"see pybuild {syntax.verb} --help")


def _spelling(option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    joint = "" if option.kind is Kind.PERHAPS else " "
    return f"{short}--{option.name}{joint}{option.metavar}".rstrip()


def _check_count(syntax: Syntax, count: int) -> None:
    if count < syntax.at_least:
        least = syntax.at_least
        few = "an argument" if least == 1 else f"at least {least} arguments"
        raise usage_error(syntax, f"needs {few}", f"usage: pybuild {syntax.usage}")
    if syntax.at_most is not None and count > syntax.at_most:
        most = syntax.at_most
        limit = "no arguments" if most == 0 else f"at most {most}" if most > 1 else "one argument"
        raise usage_error(syntax, f"takes {limit}, got {count}", f"usage: pybuild {syntax.usage}")


class _Reader:
    """One pass over the words of one command line."""

    def __init__(self, syntax: Syntax) -> None:
        self._syntax = syntax
        self._by_name: Mapping[str, Option] = {o.name: o for o in syntax.options}
        self._by_short: Mapping[str, Option] = {o.short: o for o in syntax.options if o.short}
        later = [word.partition("/") for word in syntax.later.split()]
        self._later = {name for name, _, _ in later}
        self._later_short = {short: name for name, _, short in later if short}
        self._parsed = Parsed()

    def read(self, words: list[str]) -> Parsed:
        rest = iter(words)
        for word in rest:
            if word == "--":
                self._parsed.dashes = len(self._parsed.arguments)
                self._parsed.arguments.extend(rest)
            elif word.startswith("--"):
                self._long(word[2:], rest)
            elif word.startswith("-") and word != "-":
                self._cluster(word[1:], rest)
            else:
                self._parsed.arguments.append(word)
                if self._syntax.options_first:
                    self._parsed.arguments.extend(rest)
            if self._parsed.wants_help:
                break
        return self._parsed

    def _long(self, body: str, rest: Iterator[str]) -> None:
        name, equals, text = body.partition("=")
        option = self._by_name.get(name)
        if option is None:
            self._unknown(name)
        elif option.kind is Kind.FLAG:
            self._parsed.add(name, self._boolean(f"--{name}", text) if equals else "true")
        elif option.kind is Kind.PERHAPS:
            self._parsed.add(name, text)
        else:
            self._parsed.add(name, text if equals else self._next(f"--{name}", rest))

    def _cluster(self, letters: str, rest: Iterator[str]) -> None:
        while letters:
            letter, letters = letters[0], letters[1:]
            option = self._by_short.get(letter)
            if option is None:
                self._unknown_short(letter)
                return
            if option.kind is not Kind.FLAG:
                text = letters.removeprefix("=") if letters else self._next(f"-{letter}", rest)
                self._parsed.add(option.name, text)
                return
            if letters.startswith("="):
                self._parsed.add(option.name, self._boolean(f"-{letter}", letters[1:]))
                return
            self._parsed.add(option.name, "true")

    def _next(self, spelling: str, rest: Iterator[str]) -> str:
        word = next(rest, None)
        if word is None:
            raise usage_error(self._syntax, f"{spelling} needs a value")
        return word

    def _boolean(self, spelling: str, text: str) -> str:
        if text in _TRUE:
            return "true"
        if text in _FALSE:
            return "false"
        raise usage_error(self._syntax, f'{spelling}: "{text}" is neither true nor false')

    def _unknown(self, name: str) -> None:
        if name == "help":
            self._parsed.wants_help = True
            return
        if name in self._later:
            raise NotSupported(f"--{name}: not supported yet")
        if name in self._syntax.of_build:
            raise usage_error(
                self._syntax, f"--{name} is an option of build and means nothing here"
            )
        if name in ("root", "debug", "version"):
            hint = f"--{name} is a global option: it stands before the verb"
            raise usage_error(self._syntax, f"unknown option --{name}", hint)
        close = suggestion(name, [*self._by_name, *self._later, "help"])
        meant = f"did you mean --{close}?" if close else None
        raise usage_error(self._syntax, f"unknown option --{name}", meant)

    def _unknown_short(self, letter: str) -> None:
        if letter == "h":
            self._parsed.wants_help = True
            return
        if letter in self._later_short:
            raise NotSupported(f"-{letter} (--{self._later_short[letter]}): not supported yet")
        raise usage_error(self._syntax, f"unknown option -{letter}")
