"""Ignore files: which paths of a build context are left out.

Owns the syntax of .dockerignore and of the pattern lists of `--exclude`: patterns in order, the
last that matches a path or one of its parents decides, `!` takes back in. Refuses to look at a
disk: paths are given, relative and separated by `/`.
Source: Dockerfile reference, ".dockerignore file"; moby/patternmatcher.
"""

import posixpath
import re
from collections.abc import Iterable

from grammar import glob
from grammar.errors import PatternError
from values.classes import dataclass

_BELOW = "(?:/.*)?"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern: `text` as cleaned, without `!`; `line` of its file, from 1, or its place."""

    text: str
    line: int
    negated: bool
    # Matches the paths that match and all that lies below them.
    regex: re.Pattern[str]

    def __str__(self) -> str:
        return f"!{self.text}" if self.negated else self.text


class PatternList:
    """Patterns in order, the last match wins.

    patterns: as written, `!` and all; blank ones are dropped. Raises PatternError.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        numbered = enumerate(patterns, start=1)
        self._patterns = tuple(
            _pattern(text.strip(), line) for line, text in numbered if text.strip()
        )
        self._deciding = tuple(reversed(self._patterns))
        self._negated = tuple(pattern for pattern in self._patterns if pattern.negated)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns as cleaned, in order, with their `!`."""
        return tuple(str(pattern) for pattern in self._patterns)

    def excludes(self, path: str, is_dir: bool = False) -> bool:
        """Return whether `path` is left out.

        is_dir: accepted for the caller's convenience; a pattern matches both kinds alike.
        """
        rule = self._rule(path)
        return rule is not None and not rule.negated

    def deciding_rule(self, path: str) -> tuple[int, str] | None:
        """Return line and text of the pattern that decides on `path`, None where none matches."""
        rule = self._rule(path)
        return None if rule is None else (rule.line, str(rule))

    def may_reinclude_below(self, directory: str) -> bool:
        """Return whether a path below an excluded `directory` might be taken back in.

        False allows a walker not to descend; True promises nothing.
        """
        parts = _clean(directory).split("/")
        if parts == ["."]:
            return bool(self._negated)
        return any(_reaches_below(pattern.text.split("/"), parts) for pattern in self._negated)

    def _rule(self, path: str) -> Pattern | None:
        cleaned = _clean(path)
        if cleaned == ".":
            return None  # the root itself is never left out
        return next((rule for rule in self._deciding if rule.regex.fullmatch(cleaned)), None)


class IgnoreRules(PatternList):
    """The rules of an ignore file; lines count as in the file."""


def parse(data: bytes | str) -> IgnoreRules:
    """Return the rules of an ignore file. Raises PatternError with the line.

    data: UTF-8; other bytes are surrogate escapes in patterns and paths, as os.fsdecode has it.
    Blank lines and lines whose first character is `#` say nothing.
    """
    text = data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
    text = text.removeprefix("\ufeff")
    return IgnoreRules("" if line.startswith("#") else line for line in text.split("\n"))


def _pattern(written: str, line: int) -> Pattern:
    negated = written.startswith("!")
    text = written[1:].strip() if negated else written
    if not text:
        raise PatternError("illegal exclusion pattern: !", line=line, hint="write !path")
    text = _clean(text)
    if len(text) > 1 and text.startswith("/"):
        text = text[1:]
    try:
        regex = _regex(text)
    except PatternError as error:
        raise PatternError(error.message, line=line, hint=error.hint) from error
    return Pattern(text, line, negated, re.compile(regex, re.DOTALL))


def _clean(path: str) -> str:
    """Return the path as Go's filepath.Clean does; POSIX lets normpath keep a double slash."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _regex(text: str) -> str:
    """Return what matches the paths of a pattern and all that lies below them.

    `**` is any number of directories, also none; at the end it is everything, but `a/**` leaves
    `a` itself alone. `**` before plain text and no slash is any beginning: `**.go` matches `a.go`.
    """
    rest = text.removeprefix("**")
    plain = rest != "" and rest[0] != "/" and "\\" not in rest and not glob.has_wildcard(rest)
    if rest != text and plain:
        return f".*{re.escape(rest)}{_BELOW}"
    pieces = list(glob.pieces(text))
    out = []
    at = 0
    while at < len(pieces):
        if pieces[at : at + 2] == [glob.STAR, glob.STAR]:
            at += 2
            at += at < len(pieces) and pieces[at].literal == "/"
            out.append("(?:.*/)?" if at < len(pieces) else ".*")
        else:
            out.append(pieces[at].regex)
            at += 1
    return "".join(out) + _BELOW


def _reaches_below(pattern: list[str], directory: list[str]) -> bool:
    """Return whether a pattern's parts could match below a directory's."""
    for wanted, given in zip(pattern, directory, strict=False):
        # `**` spans directories, a class may match a slash, a backslash may precede one.
        if "**" in wanted or "[" in wanted or "\\" in wanted:
            return True
        if not glob.match(wanted, given):
            return False
    return True
