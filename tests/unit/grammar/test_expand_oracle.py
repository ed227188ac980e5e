"""A second, hand-written expansion, character by character; both must agree on any word."""

import re

from hypothesis import given
from hypothesis import strategies as st

from grammar.errors import ExpansionError
from grammar.expand import expand

ENV = {"a": "xyxy", "b": "", "c": "x*/y$a}"}


# Stands in a value for an error that counts only if the value is used.
FAULT = "\1"


class Bad(Exception):
    """The word itself is malformed."""


class Oracle:
    def __init__(self, word: str, escape: str) -> None:
        self.word, self.escape, self.at = word, escape, 0

    def peek(self) -> str:
        return self.word[self.at : self.at + 1]

    def next(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def until(self, stop: str, raw: bool) -> str:
        out = ""
        while (char := self.peek()) != stop:
            if not char:
                raise Bad
            if char == "'":
                end = self.word.find("'", self.at + 1)
                if end < 0:
                    raise Bad
                out += self.word[self.at + 1 : end]
                self.at = end + 1
            elif char == '"':
                self.next()
                out += self.double(raw)
            elif char == "$":
                out += self.dollar()
            elif char == self.escape:
                self.next()
                escaped = self.next()
                out += (char if raw else "") + escaped
            else:
                out += self.next()
        self.next()
        return out

    def double(self, raw: bool) -> str:
        out = ""
        while (char := self.peek()) != '"':
            if not char:
                raise Bad
            if char == "$":
                out += self.dollar()
                continue
            self.next()
            if char == self.escape and self.peek() in ('"', "$", self.escape) and self.peek():
                out += (char if raw else "") + self.next()
            else:
                out += char
        self.next()
        return out

    def name(self) -> str:
        found = re.compile(r"[0-9]+|[@*#?\-$!]|[a-zA-Z_]\w*").match(self.word, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def dollar(self) -> str:
        self.next()
        if self.peek() != "{":
            name = self.name()
            return ENV.get(name, "") if name else "$"
        self.next()
        name = self.name()
        if not name:
            raise Bad
        value = ENV.get(name)
        operator = self.next()
        if operator == "}":
            return value or ""
        if operator == "/":
            return self.replace(value or "")
        if operator and operator in "#%":
            greedy = self.peek() == operator
            self.at += greedy
            return trim(value or "", self.until("}", True), operator, greedy)
        missing = value is None
        if operator == ":":
            operator = self.next()
            missing = not value
        return self.choose(value or "", operator, missing)

    def choose(self, value: str, operator: str, missing: bool) -> str:
        if operator not in ("-", "+", "?"):
            raise Bad
        word = self.until("}", False)
        if operator == "?" and missing:
            return FAULT
        if operator == "+":
            return "" if missing else word
        return word if missing else value

    def replace(self, value: str) -> str:
        every = self.peek() == "/"
        self.at += every
        pattern = self.until("/", True)
        text = self.until("}", True)
        if not is_pattern(pattern) or FAULT in text:
            return FAULT
        out, at, last = "", 0, -1
        while at <= len(value):
            ends = [end for end in range(len(value), at - 1, -1) if like(pattern, value[at:end])]
            if ends and ends[0] != last:
                out, last = out + text, ends[0]
                if not every:
                    return out + value[last:]
                if last > at:
                    at = last
                    continue
            out += value[at : at + 1]
            at += 1
        return out


def trim(value: str, pattern: str, side: str, greedy: bool) -> str:
    if not is_pattern(pattern):
        return FAULT
    sizes = range(len(value), -1, -1) if greedy else range(len(value) + 1)
    for size in sizes:
        if side == "#" and like(pattern, value[:size]):
            return value[size:]
        if side == "%" and like(pattern, value[len(value) - size :]):
            return value[: len(value) - size]
    return value


def is_pattern(pattern: str) -> bool:
    return re.fullmatch(r"(?:\\[*?\\}/]|[^\\\1])*", pattern) is not None


def like(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(like(pattern[1:], text[at:]) for at in range(len(text) + 1))
    if pattern[0] == "?":
        return text != "" and like(pattern[1:], text[1:])
    if pattern[0] == "\\":
        pattern = pattern[1:]
    return text[:1] == pattern[0] and like(pattern[1:], text[1:])


def expected(word: str, escape: str) -> str | None:
    try:
        value = Oracle(word + "\0", escape).until("\0", False)
    except Bad:
        return None
    return None if FAULT in value else value


fragment = st.sampled_from(
    ["$", "{", "}", "${a", "${b", "${c", "${d", ":-", "-", ":+", "+", "?", ":?", "#", "##", "%",
     "x", "y", "*", "'", '"', "\\", "`", "a", "1", " "]
)  # fmt: skip


@given(st.lists(fragment, max_size=14).map("".join), st.sampled_from(["\\", "`"]))
def test_agrees_with_the_oracle(word: str, escape: str) -> None:
    if word.endswith(escape):
        word += "x"  # what a lone escape at the very end is, the oracle's sentinel hides
    try:
        found: str | None = expand(word, ENV, escape).value
    except ExpansionError:
        found = None
    assert found == expected(word, escape)


@given(st.text("ab*?\\\\", max_size=7), st.text("ab", max_size=9), st.sampled_from(["#", "%"]))
def test_trimming_agrees(pattern: str, value: str, side: str) -> None:
    for greedy in (False, True):
        word = f"${{v{side * (1 + greedy)}{pattern}}}"
        try:
            found: str | None = expand(word, {"v": value}).value
        except ExpansionError:
            found = None
        is_open = (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1  # the last one escapes the }
        trimmed = None if is_open else trim(value, pattern, side, greedy)
        assert found == (None if trimmed == FAULT else trimmed)
