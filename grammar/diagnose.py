"""Why an instruction does not match the grammar, in a person's words.

Gets the logical line and the place where the parser gave up; the parser's own account names
terminals, which helps nobody.
"""

import re

from grammar import flags
from grammar.errors import shown
from grammar.leaves import Misread, refuse_array

_WORD = re.compile(r"[^\t\v\f\r ]*")
_ONBUILD = re.compile(r"ONBUILD[\t\v\f\r ]+(?:--[\t\v\f\r ]+)?(?=\S)(?!--)", re.IGNORECASE)
_CLOSED = re.compile(r"""[\\`].|'[^']*'|"[^"]*\"""", re.DOTALL)
_ONE_WORD = ("MAINTAINER", "STOPSIGNAL", "USER", "WORKDIR")


def explain(text: str, offset: int, last: int) -> Misread:
    """Return the fault of a logical line that the parser could not read beyond `offset`.

    last: where the parser's last terminal begins, if `offset` is the end of the line.
    """
    keyword, begin = _instruction(text)
    if offset <= begin:
        return _bad_keyword(text, offset)
    if offset >= len(text):
        return _bad_flag(keyword, text, last) or _incomplete(keyword, text)
    return _bad_argument(keyword, text, offset)


def unknown_flag(text: str, name: str, offset: int) -> Misread:
    """Return the fault of a flag that the line's instruction does not have."""
    keyword, _ = _instruction(text)
    if name in flags.FLAGS.get(keyword, ()):
        return Misread(f"flag --{name} of {keyword} stands behind its arguments", offset)
    hint = flags.did_you_mean(name, flags.FLAGS.get(keyword, ()), "--")
    owners = [owner for owner, names in flags.FLAGS.items() if name in names]
    if hint is None and owners:
        hint = f"--{name} is a flag of {' and '.join(owners)}"
    elif hint is None and keyword in ("CMD", "ENTRYPOINT", "RUN"):
        hint = "a command that begins with -- needs the JSON form"
    return Misread(f"unknown flag --{name} for {keyword}", offset, hint)


def _instruction(text: str) -> tuple[str, int]:
    """Return the instruction's word, behind ONBUILD if there is one, and where it begins."""
    found = _ONBUILD.match(text)
    begin = found.end() if found else 0
    return _at(text, begin).upper(), begin


def _bad_keyword(text: str, offset: int) -> Misread:
    word = _at(text, offset)
    known = word.upper()
    if known in flags.INSTRUCTIONS:
        if known == "ONBUILD":
            return Misread("ONBUILD ONBUILD is not allowed", offset)
        return Misread(f"{known} is not allowed as an ONBUILD trigger", offset)
    hint = flags.did_you_mean(known, flags.INSTRUCTIONS)
    letters = re.match("[A-Z]*", known)
    if letters and letters[0] in flags.INSTRUCTIONS and known[letters.end()].isspace():
        hint = f"the blank behind {letters[0]} is U+{ord(known[letters.end()]):04X}, not a space"
    return Misread(f"unknown instruction {shown(word)}", offset, hint)


def _bad_flag(keyword: str, text: str, last: int) -> Misread | None:
    """Return the fault of a flag that ends the line, or None if there is nothing else wrong."""
    if text.startswith("--", last):
        name = text[last + 2 :]
        if name and name not in flags.FLAGS.get(keyword, ()):
            return unknown_flag(text, name.partition("=")[0], last)
        if name and name not in flags.SWITCHES:
            return Misread(f"flag --{name} needs a value", last, f"write --{name}=…")
    elif text.startswith("=", last) and re.search("['\"]", _CLOSED.sub("", text[last:])):
        name = text[:last].rpartition("--")[2]
        return Misread(f"unterminated quote in the value of --{name}", last + 1)
    return None


def _incomplete(keyword: str, text: str) -> Misread:
    words = text.split()
    last = words[-1]
    if keyword == "FROM":
        return _from_arguments(0)
    if keyword in ("ENV", "LABEL") and len(words) > 1 and last.upper() != keyword:
        return Misread(f"{keyword} must have two arguments", text.rfind(last), "write name=value")
    if keyword == "HEALTHCHECK" and last.upper() == "CMD":
        return Misread("missing command after HEALTHCHECK CMD", text.rfind(last))
    begin = _instruction(text)[1]
    if keyword in ("ADD", "COPY"):
        hint = f"{keyword} source… destination"
        return Misread(f"{keyword} requires at least two arguments", begin, hint)
    count = "exactly" if keyword in _ONE_WORD else "at least"
    return Misread(f"{keyword} requires {count} one argument", begin)


def _bad_argument(keyword: str, text: str, offset: int) -> Misread:
    word = _at(text, offset)
    if word.startswith("--"):
        return unknown_flag(text, word[2:].partition("=")[0], offset)
    if keyword == "FROM":
        before = text[:offset].split()
        if before[-1].upper() == "AS" and len(text[offset:].split()) == 1:
            message = f"invalid name for build stage: {shown(word)}"
            return Misread(message, offset, "a letter first, then letters, digits, - _ or .")
        return _from_arguments(offset)
    if keyword == "SHELL":
        try:
            refuse_array(text[offset:], offset)
        except Misread as fault:
            return fault
        return Misread(
            "SHELL requires the arguments to be in JSON form", offset, 'SHELL ["…", "…"]'
        )
    if keyword == "HEALTHCHECK":
        return _bad_healthcheck(text, offset, word)
    if keyword in ("ENV", "LABEL", "ARG"):
        return _bad_assignment(text, offset, word)
    return Misread(f"{keyword} has an unexpected {shown(word)}", offset)


def _bad_healthcheck(text: str, offset: int, word: str) -> Misread:
    if re.search(r"\bNONE\s+\Z", text[:offset], re.IGNORECASE):
        return Misread("HEALTHCHECK NONE takes no arguments", offset)
    return Misread(f"unknown type {shown(word)} in HEALTHCHECK", offset, "try CMD")


def _bad_assignment(text: str, offset: int, word: str) -> Misread:
    quote = re.match(r"""[^'"]*(['"])""", text[offset:])
    if quote and (quote[1] in word or "=" in word):
        return Misread(f"unterminated quote {quote[1]}", offset + quote.start(1))
    return Misread(f"no = in {shown(word)}", offset, "write name=value, with quotes for blanks")


def _from_arguments(offset: int) -> Misread:
    return Misread("FROM requires either one or three arguments", offset, "FROM image [AS name]")


def _at(text: str, offset: int) -> str:
    found = _WORD.match(text, offset)
    return found[0] if found else ""
