"""Words with variables → values.

Owns `$name` and every form of `${…}`, quotes and escapes. Refuses to know which words of an
instruction are expanded, and in which environment. A word without `$`, quote and escape is its
own value, and Lark is not loaded for it.
Source: Dockerfile reference, "Environment replacement".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from grammar.errors import ExpansionError, shown
from values.classes import dataclass, field

if TYPE_CHECKING:
    from grammar.generator import Lark, UnexpectedInput

_BLANKS = re.compile(r"\s+")
_NAME = r"(?:[0-9]+|[@*#?\-$!]|[^\W\d]\w*)"
# A piece of a heredoc's body: text, what is escaped, a variable's name, the begin of another form.
_BODY = re.compile(
    rf"(?P<text>[^$\\]+|\$(?!\{{|{_NAME}))|\\(?P<escaped>.?)"
    rf"|\$\{{(?P<braced>{_NAME})\}}|\$(?P<plain>{_NAME})|(?P<form>\$\{{)",
    re.DOTALL,
)
_SWAPPED = str.maketrans("\"'\ufdd0\ufdd1", "\ufdd0\ufdd1\"'")
_MOST_BRACES = 1000
# The terminals in which "\" is the escape character.
_ESCAPING = frozenset(
    {"TEXT", "BODY_TEXT", "PATTERN_TEXT", "QUOTED_TEXT", "ESCAPED", "QUOTED_ESCAPE"}
)


@dataclass(frozen=True, slots=True)
class Expansion:
    """A word's value. `undefined`: names that it used and that are not set, in order, once."""

    value: str
    undefined: tuple[str, ...] = ()


def expand(word: str, env: Mapping[str, str], escape: str = "\\") -> Expansion:
    """Return the value of `word`, which stays one word.

    A name with a default of its own (`${v:-w}` and the like) is not undefined.
    Raises ExpansionError.
    """
    if _is_literal(word, escape):
        return Expansion(word)
    scope = _Scope(env)
    pieces = _expand(word, scope, escape)
    return Expansion("".join(text for text, _ in pieces), tuple(scope.undefined))


def expand_words(word: str, env: Mapping[str, str], escape: str = "\\") -> tuple[str, ...]:
    """Return the values of `word`, split at blanks after expansion, quoted blanks excepted.

    Raises ExpansionError.
    """
    pieces = [(word, True)] if _is_literal(word, escape) else _expand(word, _Scope(env), escape)
    words = [""]
    for text, splits in pieces:
        first, *more = _BLANKS.split(text) if splits else [text]
        words[-1] += first
        words += more
    return tuple(filter(None, words))


def expand_body(body: str, env: Mapping[str, str]) -> Expansion:
    r"""Return the value of a heredoc's body, which may be long: quotes are text in it.

    A backslash goes, whatever it stands before and whatever a file's escape character is: `\\$`
    gives `$`, `\\n` gives `n`. Raises ExpansionError.
    Source: BuildKit, SupportsSingleWordExpansionRaw, and its test of special symbols in heredocs.
    """
    scope = _Scope(env)
    parts: list[str] = []
    at = 0
    while at < len(body):
        found = _BODY.match(body, at)
        assert found is not None, "every character begins a piece"
        at = found.end()
        if found["form"]:
            form = _whole_form(body, found.start())
            at = found.start() + len(form)
            parts.append(_form_value(form, scope))
        elif name := found["braced"] or found["plain"]:
            parts.append(scope.value(name))
        else:
            parts.append(found["text"] or found["escaped"])
    return Expansion("".join(parts), tuple(scope.undefined))


def _whole_form(body: str, at: int) -> str:
    """Return the `${…}` that begins at `at`: up to the first brace that makes it whole.

    Where there is none it is the rest of the line, for the error.
    """
    end = at
    for _ in range(_MOST_BRACES):
        end = body.find("}", end) + 1
        if not end:
            break
        try:
            _parse(body[at:end].translate(_SWAPPED), "\\")
        except ExpansionError:
            continue
        return body[at:end]
    return body[at:].partition("\n")[0]


def _form_value(form: str, scope: "_Scope") -> str:
    """Return the value of a `${…}` in which quotes are text.

    Quotes change places with two characters that mean nothing, there and in the variables, and
    back in what comes out: so nothing takes them for quotes, and patterns find them.
    """
    if form == form.translate(_SWAPPED):
        return "".join(text for text, _ in _expand(form, scope, "\\"))
    swapped = {name: value.translate(_SWAPPED) for name, value in scope.env.items()}
    inner = _Scope(swapped, scope.undefined)
    try:
        pieces = _parse(form.translate(_SWAPPED), "\\")(inner, False)
    except ExpansionError as error:
        raise _failed(form, error.message.translate(_SWAPPED)) from error
    except RecursionError as error:
        raise _failed(form, "nested too deeply") from error
    return "".join(text for text, _ in pieces).translate(_SWAPPED)


@dataclass(slots=True)
class _Scope:
    """What a word is expanded in, and what it did not find there."""

    env: Mapping[str, str]
    undefined: dict[str, None] = field(default_factory=dict)

    def value(self, name: str) -> str:
        if name not in self.env:
            self.undefined[name] = None
        return self.env.get(name, "")


# A piece of a value, and whether a blank in it may split words.
_Pieces = list[tuple[str, bool]]
# A part of a parsed word: gives its pieces; with `raw` it keeps escape characters, for patterns.
_Part = Callable[[_Scope, bool], _Pieces]


def _is_literal(word: str, escape: str) -> bool:
    return not ("$" in word or escape in word or '"' in word or "'" in word)


def _expand(word: str, scope: _Scope, escape: str) -> _Pieces:
    try:
        return _parse(word, escape)(scope, False)
    except ExpansionError as error:
        raise _failed(word, error.message) from error
    except RecursionError as error:
        raise _failed(word, "nested too deeply") from error


def _failed(word: str, cause: str) -> ExpansionError:
    short = word if len(word) <= 60 else word[:57] + "…"
    return ExpansionError(f"failed to expand {short!r}: {cause}")  # words are full of "


@lru_cache(maxsize=1024)
def _parse(word: str, escape: str) -> _Part:
    from grammar.generator import UnexpectedInput  # 57 ms, and most words are literal

    try:
        part: object = _reader(escape).parse(word)
    except UnexpectedInput as error:
        raise _fault(word, error) from error
    assert callable(part)
    found: _Part = part
    return found


@cache
def _reader(escape: str) -> "Lark":
    from grammar.reader import Grammar, make_reader

    return make_reader(Grammar("words.lark", ("word",), _ESCAPING), escape, _Parts())


class _Parts:
    """The parser's callbacks: every rule of words.lark becomes a function of the scope."""

    def word(self, children: Sequence[_Part]) -> _Part:
        return _joined(children)

    body = pattern = word

    def text(self, children: Sequence[str]) -> _Part:
        pieces = [(str(children[0]), True)]
        return lambda scope, raw: pieces

    def dollar(self, children: Sequence[str]) -> _Part:
        return lambda scope, raw: [("$", True)]

    def single(self, children: Sequence[str]) -> _Part:
        pieces = [(children[0][1:-1], False)]
        return lambda scope, raw: pieces

    def double(self, children: Sequence[_Part]) -> _Part:
        inside = _joined(children)
        return lambda scope, raw: [("".join(text for text, _ in inside(scope, raw)), False)]

    def escaped(self, children: Sequence[str]) -> _Part:
        return _escape(str(children[0]))

    def quoted_escape(self, children: Sequence[str]) -> _Part:
        text = str(children[0])
        return _escape(text) if len(text) > 1 else self.text(children)

    def plain(self, children: Sequence[str]) -> _Part:
        return self.value([children[0][1:]])

    def value(self, children: Sequence[str]) -> _Part:
        name = str(children[0])
        return lambda scope, raw: [(scope.value(name), True)]

    def choice(self, children: tuple[str, str, _Part]) -> _Part:
        name, operator, word = str(children[0]), str(children[1]), children[2]

        def choose(scope: _Scope, raw: bool) -> _Pieces:
            value = scope.env.get(name)
            given = value is not None and (value != "" or operator[0] != ":")
            if operator[-1] == "+":
                return [(_flat(word, scope, False) if given else "", True)]
            if given:
                return [(value or "", True)]
            if operator[-1] == "-":
                # As BuildKit has it, what stands for a variable splits, quotes within or not.
                return [(_flat(word, scope, False), True)]
            cause = "is not allowed to be unset" if value is None else "is not allowed to be empty"
            raise ExpansionError(f"{name}: {_flat(word, scope, False) or cause}")

        return choose

    def trim(self, children: tuple[str, str, _Part]) -> _Part:
        name, operator, pattern = str(children[0]), str(children[1]), children[2]
        greedy = len(operator) == 2

        def trimmed(scope: _Scope, raw: bool) -> _Pieces:
            value = scope.value(name)
            # A suffix is a prefix of what is read from its end.
            step = 1 if operator[0] == "#" else -1
            regex = _regex(_flat(pattern, scope, True), greedy, backwards=step < 0)
            found = re.match(regex, value[::step], re.DOTALL)
            return [(value[::step][found.end() :][::step] if found else value, True)]

        return trimmed

    def substitute(self, children: tuple[str, str, _Part, _Part]) -> _Part:
        name, operator, pattern, replacement = children

        def substituted(scope: _Scope, raw: bool) -> _Pieces:
            value = scope.value(str(name))
            regex = re.compile(_regex(_flat(pattern, scope, True), greedy=True), re.DOTALL)
            text = _flat(replacement, scope, True)
            return [(_replace(regex, text, value, every=operator == "//"), True)]

        return substituted


def _replace(regex: re.Pattern[str], text: str, value: str, *, every: bool) -> str:
    out: list[str] = []
    at = 0
    for match in regex.finditer(value):
        # As Go does it: nothing is found right behind what was just replaced.
        if match.end() == match.start() == at and out:
            continue
        out += [value[at : match.start()], text]
        at = match.end()
        if not every:
            break
    return "".join(out) + value[at:]


def _joined(parts: Sequence[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    return lambda scope, raw: [piece for part in parts for piece in part(scope, raw)]


def _flat(part: _Part, scope: _Scope, raw: bool) -> str:
    return "".join(text for text, _ in part(scope, raw))


def _escape(text: str) -> _Part:
    """Return the part of an escape character and what it escapes, which may be nothing."""
    return lambda scope, raw: [(text if raw else text[1:], False)]


def _regex(pattern: str, greedy: bool, *, backwards: bool = False) -> str:
    """Return a shell pattern as a regular expression: `?` and `*`, and no `[…]`.

    A backslash makes `?`, `*` and itself literal; before `}` and `/` it only kept the word open.
    What stands between two stars is taken where it is found first, and never looked for again:
    whatever can follow it there can follow it later, too. So many stars take no longer than few.
    """
    tokens = []
    for match in re.finditer(r"\\(.?)|(.)", pattern, re.DOTALL):
        escaped, plain = match.groups()
        if plain is not None:
            tokens.append({"*": "", "?": "."}.get(plain, re.escape(plain)))
        elif escaped and escaped in "*?\\}/":
            tokens.append(re.escape(escaped))
        else:
            raise ExpansionError(f"invalid escape \\{escaped} in pattern {shown(pattern)}")
    pieces = [""]
    for token in reversed(tokens) if backwards else tokens:
        if token:
            pieces[-1] += token
        else:
            pieces.append("")
    first, *between = pieces
    if not between:
        return first
    *between, last = between
    found = "".join(f"(?>.*?{piece})" for piece in between if piece)
    return f"{first}{found}{'.*' if greedy else '.*?'}{last}"


def _fault(word: str, error: "UnexpectedInput") -> ExpansionError:
    """Return the parser's error in a person's words. What it expected tells where it stood."""
    expected = set(getattr(error, "expected", None) or getattr(error, "allowed", None) or ())
    ended = getattr(getattr(error, "token", None), "type", None) == "$END"
    found: int | None = getattr(error, "pos_in_stream", None)  # Lark declares it as None only
    at = len(word) if ended or found is None else found
    if "NAME" in expected:
        return ExpansionError("missing }" if at >= len(word) else "bad substitution")
    if "CHOICE" in expected:
        if at >= len(word):
            return ExpansionError("missing }")
        return ExpansionError(f"unsupported modifier {word[at : at + 2]} in ${{…}}")
    if word[at : at + 1] == "'":
        return ExpansionError("unterminated single quote")
    if "PATTERN_TEXT" in expected:
        return ExpansionError("missing / in ${…/…/…}")
    if "BODY_TEXT" in expected:
        return ExpansionError("missing }")
    return ExpansionError("unterminated double quote")
