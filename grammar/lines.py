"""Bytes of a Dockerfile → logical lines.

Owns what depends on the text alone: byte order mark, line ends, parser directives, the escape
character, comments, continuations, here-document bodies, and the way back from a place in a
joined line to the line and column as written. Refuses to know what an instruction's words mean.
Source: Dockerfile reference, "Format", "Parser directives", "Here-documents".
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from grammar import ast
from grammar.errors import DockerfileSyntaxError, shown
from values.classes import dataclass, field, replace

# A blank is what str.isspace() says. Go's unicode.IsSpace, BuildKit's measure, differs from it in
# the control characters U+001C to U+001F only, which are none to Go.
_DIRECTIVE = re.compile(r"#[\t\n\f\r ]*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+)\Z")
_DIRECTIVES = ("syntax", "escape", "check")
_TAKES_HEREDOCS = re.compile(r"(?:ONBUILD[\t\v\f\r ]+)*(?:RUN|COPY|ADD)[\t\v\f\r ]", re.IGNORECASE)
# Heredoc delimiters are always read with a backslash, whatever the escape directive says.
_SHELL_WORD = re.compile(
    r"""(?:[^\s'"\\]|'[^']*+'|"(?:[^"\\]|\\.)*+"|\\.?+)++|(?P<open>['"])""", re.DOTALL
)
_HEREDOC = re.compile(r"(\d*)<<(-?+)\s*+([^<]+)\Z")
_QUOTED = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.?)""", re.DOTALL)
_QUOTES = re.compile("['\"]")
_POLICIES = re.compile(r"#\s*pybuild:", re.IGNORECASE)
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction as text, its continuations joined, trimmed.

    pieces: (offset in `text`, physical line from 1, column from 1) for every physical line in it.
    blanks: what stood behind the text.
    policies: what comments that begin with `pybuild:` say.
    """

    text: str
    span: ast.Span
    pieces: tuple[tuple[int, int, int], ...]
    comments: tuple[str, ...] = ()
    policies: tuple[ast.Remark, ...] = ()
    heredocs: tuple[ast.Heredoc, ...] = ()
    blanks: str = ""

    def locate(self, offset: int) -> tuple[int, int]:
        """Return the physical line and column, both from 1, of an offset in `text`."""
        return _locate(self.pieces, offset)


@dataclass(frozen=True, slots=True)
class Source:
    """A Dockerfile as text: what errors quote, and its logical lines.

    errors: what is wrong with its directives and heredocs; lines that make no sense because of
    that are left out.
    """

    name: str
    physical: tuple[str, ...]
    directives: ast.Directives
    logical: tuple[LogicalLine, ...]
    warnings: tuple[ast.Warning_, ...]
    errors: tuple[DockerfileSyntaxError, ...] = ()

    def error(
        self, message: str, line: int, column: int | None = None, hint: str | None = None
    ) -> DockerfileSyntaxError:
        """Return the error for a place in this file."""
        return _error(self.name, self.physical, (line, column), message, hint)


def read(data: bytes, name: str) -> Source:
    """Return the logical lines of a Dockerfile.

    Bytes that are no UTF-8 survive as surrogate escapes. Raises DockerfileSyntaxError for UTF-16.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DockerfileSyntaxError(
            "the file is UTF-16, not UTF-8", name=name, line=1, hint="save it as UTF-8"
        )
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    reader = _Reader(name, _physical_lines(text))
    reader.read_directives()
    logical = tuple(reader.logical_lines())
    return Source(
        name,
        tuple(line.rstrip("\r\n") for line in reader.lines),
        reader.directives,
        logical,
        tuple(reader.warnings),
        tuple(reader.errors),
    )


def read_one(text: str, escape: str, name: str) -> Source:
    """Return the logical lines of `text`, which has no directives, such as an ONBUILD trigger."""
    reader = _Reader(name, _physical_lines(text), ast.Directives(escape=escape))
    logical = tuple(reader.logical_lines())
    return Source(
        name,
        tuple(reader.lines),
        reader.directives,
        logical,
        tuple(reader.warnings),
        tuple(reader.errors),
    )


def heredoc_of(word: str) -> ast.Heredoc | None:
    """Return the here-document that a shell word announces, without its body, or None."""
    match = _HEREDOC.match(word)
    if match is None:
        return None
    fd, dash, delimiter = match.groups()
    name = _QUOTED.sub(_unquote, delimiter)
    if not name or len(_words(delimiter)) != 1:
        return None
    # As BuildKit has it, a backslash in the delimiter quotes nothing.
    quoted = len(_QUOTES.findall(name)) != len(_QUOTES.findall(delimiter))
    return ast.Heredoc(name, "", not quoted, bool(dash), int(fd) if fd else None)


def _locate(pieces: Sequence[tuple[int, int, int]], offset: int) -> tuple[int, int]:
    index = bisect_right(pieces, offset, key=lambda piece: piece[0]) - 1
    start, line, column = pieces[max(index, 0)]
    return line, max(column + offset - start, 1)


def _physical_lines(text: str) -> list[str]:
    """Split after every newline, and only there: a form feed or U+2028 ends no line."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _words(line: str) -> list[tuple[int, str]]:
    """Return the shell words of `line` and where they begin; none at all if a quote stays open."""
    words = []
    for match in _SHELL_WORD.finditer(line):
        if match["open"]:
            return []
        words.append((match.start(), match[0]))
    return words


def _unquote(match: re.Match[str]) -> str:
    single, double, escaped = match.groups()
    if double is not None:
        return re.sub(r'\\(["$\\])', r"\1", double)
    return single if single is not None else escaped


def _error(
    name: str,
    physical: tuple[str, ...] | list[str],
    place: tuple[int, int | None],
    message: str,
    hint: str | None = None,
) -> DockerfileSyntaxError:
    line, column = place
    source = physical[line - 1].rstrip("\r\n") if 0 < line <= len(physical) else ""
    return DockerfileSyntaxError(
        message, name=name, line=line, column=column, source_line=source, hint=hint
    )


@dataclass(slots=True)
class _Joined:
    """A logical line under construction: `chunks` come from `pieces`' physical lines."""

    chunks: list[str] = field(default_factory=list)
    pieces: list[tuple[int, int, int]] = field(default_factory=list)
    length: int = 0

    def add(self, chunk: str, line: int, column: int) -> None:
        self.pieces.append((self.length, line, column))
        self.chunks.append(chunk)
        self.length += len(chunk)

    def trimmed(self) -> tuple[str, tuple[tuple[int, int, int], ...], str]:
        """Return the text, its pieces, and the blanks behind it."""
        whole = "".join(self.chunks)
        text = whole.lstrip()
        cut = len(whole) - len(text)
        bare = text.rstrip()
        pieces = tuple((at - cut, line, col) for at, line, col in self.pieces)
        return bare, pieces, text[len(bare) :]


class _Reader:
    """Walks once over the physical lines; `at` is the index of the next one."""

    def __init__(
        self, name: str, lines: list[str], directives: ast.Directives | None = None
    ) -> None:
        self.name = name
        self.lines = lines
        self.at = 0
        self.directives = directives or ast.Directives()
        self.warnings: list[ast.Warning_] = []
        self.errors: list[DockerfileSyntaxError] = []

    def read_directives(self) -> None:
        """Read the directives at the top: the first line that is none closes their zone."""
        found: dict[str, str] = {}
        shebang = bool(self.lines) and self.lines[0].startswith("#!")
        for index in range(shebang, len(self.lines)):
            match = _DIRECTIVE.match(self.lines[index].strip())
            key = match[1].lower() if match else ""
            # BuildKit looks behind a `#!` line for syntax and check, but not for escape.
            if match is None or key not in _DIRECTIVES or (shebang and key == "escape"):
                break
            self.at = index + 1
            place = (index + 1, self.lines[index].index("#") + 1)
            if key in found:
                self._fault(place, f"only one {key} parser directive can be used")
            elif key == "escape" and match[2] not in ("\\", "`"):
                message = f"invalid escape directive {shown(match[2])}"
                place = (index + 1, self.lines[index].rindex(match[2]) + 1)
                self._fault(place, message, "it must be \\ or `")
                self.at = len(self.lines)  # nobody knows how to read the rest
                break
            else:
                found[key] = match[2]
        self.directives = ast.Directives(
            found.get("syntax"), found.get("escape", "\\"), found.get("check")
        )

    def logical_lines(self) -> Iterator[LogicalLine]:
        continued = continuation(self.directives.escape)
        comments: list[str] = []
        policies: list[ast.Remark] = []
        while self.at < len(self.lines):
            first = self.at
            line = self.lines[first].rstrip("\r\n")
            bare = line.lstrip()
            self.at += 1
            if (remark := self._remark(line)) is not None:
                policies.append(remark)
            elif bare.startswith("#"):
                comment = bare[1:].strip()
                if comment:
                    comments.append(comment)
                else:
                    comments = []
            elif bare:
                joined = _Joined()
                text, more = _cut(bare, continued)
                joined.add(text, first + 1, len(line) - len(bare) + 1)
                if more:
                    self._continue(joined, continued)
                found = self._finish(joined, first)
                if found is not None:
                    yield replace(found, comments=tuple(comments), policies=tuple(policies))
                if found is not None or self.at == len(self.lines):
                    comments, policies = [], []
        if policies:
            place = (policies[0].line, policies[0].column)
            self._fault(place, "no instruction below these policies")

    def _remark(self, line: str) -> ast.Remark | None:
        """Return the policies that a line is, if it is that: at the line just read."""
        bare = line.lstrip()
        match = _POLICIES.match(bare)
        if match is None:
            return None
        return ast.Remark(bare[match.end() :], self.at, len(line) - len(bare) + match.end() + 1)

    def _continue(self, joined: _Joined, continued: re.Pattern[str]) -> None:
        """Add the lines that continue an instruction; comments and blank ones end nothing."""
        warned = False
        more = True
        while more and self.at < len(self.lines):
            line = self.lines[self.at].rstrip("\r\n")
            self.at += 1
            bare = line.lstrip()
            if (remark := self._remark(line)) is not None:
                hint = "write them above the instruction"
                self._fault((remark.line, remark.column), "policies inside an instruction", hint)
            if bare.startswith("#"):
                continue
            if bare:
                text, more = _cut(line, continued)
                joined.add(text, self.at, 1)
            elif not warned:
                warned = True
                message = "Empty continuation line"
                self.warnings.append(ast.Warning_("NoEmptyContinuation", self.at, message))

    def _finish(self, joined: _Joined, first: int) -> LogicalLine | None:
        text, pieces, blanks = joined.trimmed()
        if not text:
            return None
        last = pieces[-1][1]
        heredocs: list[ast.Heredoc] = []
        if "<<" in text and _TAKES_HEREDOCS.match(text):
            for offset, word in _words(text):
                announced = heredoc_of(word)
                heredoc = announced and self._body(announced)
                if heredoc is not None:
                    heredocs.append(heredoc)
                elif announced is not None:
                    hint = f"no line is exactly {announced.name}"
                    self._fault(_locate(pieces, offset), "unterminated heredoc", hint)
                    return None
        if heredocs:
            last = self.at
        span = ast.Span(first + 1, last)
        return LogicalLine(text, span, pieces, heredocs=tuple(heredocs), blanks=blanks)

    def _body(self, doc: ast.Heredoc) -> ast.Heredoc | None:
        """Return `doc` with its body, which begins at the next physical line; None without end."""
        begin = self.at
        while self.at < len(self.lines):
            line = self.lines[self.at].rstrip("\r\n")
            self.at += 1
            if (line.lstrip("\t") if doc.strip_tabs else line) == doc.name:
                written = "".join(self.lines[begin : self.at - 1])
                body = _LEADING_TABS.sub("", written) if doc.strip_tabs else written
                return ast.Heredoc(doc.name, body, doc.expand, doc.strip_tabs, doc.fd, written)
        return None

    def _fault(self, place: tuple[int, int], message: str, hint: str | None = None) -> None:
        self.errors.append(_error(self.name, self.lines, place, message, hint))


def continuation(escape: str) -> re.Pattern[str]:
    """Return what matches the mark at the end of a line that goes on in the next one."""
    mark = re.escape(escape)
    return re.compile(rf"(?<!{mark}){mark}[ \t]*\Z")


def _cut(line: str, continued: re.Pattern[str]) -> tuple[str, bool]:
    """Return the line without its continuation mark, and whether it had one."""
    match = continued.search(line)
    return (line, False) if match is None else (line[: match.start()], True)
