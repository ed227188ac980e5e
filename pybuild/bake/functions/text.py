"""Functions on text, and from bytes to text. Source: go-cty function/stdlib, go-cty-funcs."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import posixpath
import re
import urllib.parse
import uuid
from collections.abc import Callable, Mapping

from pybuild.bake.values import WrongValue, integer, items, kind, text, whole

_GROUP = re.compile(r"\$\{?(\w+)\}?")
_VERB = re.compile(r"%(?:\[(\d+)\])?([-+ 0#]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])")


def replace(words: object, old: object, new: object) -> str:
    """Return text with every `old` replaced."""
    return text(words).replace(text(old), text(new))


def substr(words: object, offset: object, length: object) -> str:
    """Return a part of text; a negative offset counts from the end, length -1 goes up to it."""
    whole_text, start, count = text(words), integer(offset), integer(length)
    start = max(0, len(whole_text) + start) if start < 0 else start
    return whole_text[start:] if count < 0 else whole_text[start : start + count]


def join(separator: object, *lists: object) -> str:
    """Return the elements of lists, joined."""
    return text(separator).join(text(item) for found in lists for item in items(found))


def split(separator: object, words: object) -> list[object]:
    """Return the pieces between separators."""
    mark, whole_text = text(separator), text(words)
    return list(whole_text.split(mark)) if mark else list(whole_text)


def chomp(words: object) -> str:
    """Return text without the line ends at its end."""
    return text(words).rstrip("\r\n")


def indent(spaces: object, words: object) -> str:
    """Return text with blanks before every line but the first."""
    return text(words).replace("\n", "\n" + " " * integer(spaces))


def title(words: object) -> str:
    """Return text with the first letter of each word in upper case."""
    return re.sub(r"(^|[^\w'])(\w)", lambda m: m[1] + m[2].upper(), text(words))


def trim(words: object, letters: object) -> str:
    """Return text without any of these letters at its ends."""
    return text(words).strip(text(letters))


def _compiled(pattern: object) -> re.Pattern[str]:
    try:
        return re.compile(text(pattern))
    except re.error as error:
        raise WrongValue(f"the pattern is wrong: {error}") from error


def _captured(found: re.Match[str]) -> object:
    if found.re.groupindex:
        return dict(found.groupdict())
    return list(found.groups()) if found.re.groups else found[0]


def regex(pattern: object, words: object) -> object:
    """Return the first match: its text, or its groups as a list or an object."""
    found = _compiled(pattern).search(text(words))
    if found is None:
        raise WrongValue("pattern did not match any part of the given string")
    return _captured(found)


def regexall(pattern: object, words: object) -> list[object]:
    """Return all matches."""
    return [_captured(found) for found in _compiled(pattern).finditer(text(words))]


def regex_replace(words: object, pattern: object, new: object) -> str:
    """Return text with all matches replaced; `$1` or `${name}` is a group."""
    template = _GROUP.sub(r"\\g<\1>", text(new).replace("\\", r"\\"))
    try:
        return _compiled(pattern).sub(template, text(words))
    except (re.error, IndexError) as error:
        raise WrongValue(f"the replacement is wrong: {error}") from error


def format_(pattern: object, *arguments: object) -> str:
    """Return text made as Go's fmt.Sprintf makes it."""
    position = 0

    def one(found: re.Match[str]) -> str:
        nonlocal position
        number, flags, width, precision, verb = found.groups()
        if verb == "%":
            return "%"
        place = int(number) - 1 if number else position
        position = place + 1
        if not 0 <= place < len(arguments):
            raise WrongValue(f"there is no argument for {found[0]}")
        return _formatted(arguments[place], flags, width or "", precision or "", verb)

    made = _VERB.sub(one, text(pattern))
    if position < len(arguments) and "[" not in text(pattern):
        raise WrongValue(f"too many arguments: {position} are used")
    return made


def _formatted(value: object, flags: str, width: str, precision: str, verb: str) -> str:
    dot = f".{precision}" if precision else ""
    if verb == "v":
        plain = value if isinstance(value, str) else encoded(value)
        return f"%{flags}{width}s" % plain
    if verb == "q":
        return json.dumps(text(value), ensure_ascii=False)
    if verb == "s":
        return f"%{flags}{width}{dot}s" % text(value)
    if verb == "t":
        return text(value)
    if isinstance(value, str):
        value = float(value) if "." in value else integer(value)
    if not isinstance(value, int | float):
        raise WrongValue(f"%{verb} takes a number, and this is {kind(value)}")
    if verb == "b":
        return f"{integer(value):{flags.replace('-', '<')}{width}b}"
    if verb in "doxX":
        return f"%{flags}{width}{verb}" % integer(value)
    if verb in "eEfFgG":
        return f"%{flags}{width}{dot}{verb}" % value
    raise WrongValue(f"unsupported format verb %{verb}")


def formatlist(pattern: object, *arguments: object) -> list[object]:
    """Return a text for every element of the lists among the arguments."""
    lengths = {len(argument) for argument in arguments if isinstance(argument, list)}
    if len(lengths) > 1:
        raise WrongValue(f"the lists are of different lengths: {sorted(lengths)}")
    count = lengths.pop() if lengths else 1
    rows = (
        [argument[number] if isinstance(argument, list) else argument for argument in arguments]
        for number in range(count)
    )
    return [format_(pattern, *row) for row in rows]


def sanitize(words: object) -> str:
    """Return text as a target may be called."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text(words))


def encoded(value: object) -> str:
    """Return a value as JSON."""
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return whole(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def decoded(words: object) -> object:
    """Return the value that JSON says."""
    try:
        found: object = json.loads(text(words))
    except ValueError as error:
        raise WrongValue(f"it is no JSON: {error}") from error
    return found


def csvdecode(words: object) -> list[object]:
    """Return the rows of CSV as objects; the first line names the columns."""
    rows = list(csv.DictReader(text(words).splitlines()))
    if any(None in row or None in row.values() for row in rows):
        raise WrongValue("a row has not as many fields as the first one")
    return [dict(row) for row in rows]


def base64decode(words: object) -> str:
    """Return the text that base64 says."""
    try:
        return base64.b64decode(text(words), validate=True).decode()
    except ValueError as error:
        raise WrongValue(f"it is no base64 of text: {error}") from error


def digest(algorithm: str) -> Callable[[object], str]:
    """Return the function that digests text, in hexadecimal digits."""
    return lambda words: hashlib.new(algorithm, text(words).encode()).hexdigest()


def uuidv5(namespace: object, name: object) -> str:
    """Return the UUID of a name in a namespace: dns, url, oid, x500, or a UUID."""
    known = {
        "dns": uuid.NAMESPACE_DNS,
        "url": uuid.NAMESPACE_URL,
        "oid": uuid.NAMESPACE_OID,
        "x500": uuid.NAMESPACE_X500,
    }
    try:
        place = known.get(text(namespace)) or uuid.UUID(text(namespace))
    except ValueError as error:
        raise WrongValue(f"the namespace is no UUID: {error}") from error
    return str(uuid.uuid5(place, text(name)))


def byteslen(words: object) -> int:
    """Return how many bytes text takes in UTF-8."""
    return len(text(words).encode())


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "base64decode": base64decode,
    "base64encode": lambda words: base64.b64encode(text(words).encode()).decode(),
    "basename": lambda path: posixpath.basename(text(path).rstrip("/")) or ("/" if path else "."),
    "byteslen": byteslen,
    "chomp": chomp,
    "csvdecode": csvdecode,
    "dirname": lambda path: posixpath.dirname(text(path)) or ".",
    "format": format_,
    "formatlist": formatlist,
    "indent": indent,
    "join": join,
    "jsondecode": decoded,
    "jsonencode": encoded,
    "lower": lambda words: text(words).lower(),
    "md5": digest("md5"),
    "regex": regex,
    "regex_replace": regex_replace,
    "regexall": regexall,
    "replace": replace,
    "sanitize": sanitize,
    "sha1": digest("sha1"),
    "sha256": digest("sha256"),
    "sha512": digest("sha512"),
    "split": split,
    "strlen": lambda words: len(text(words)),
    "reverse": lambda words: text(words)[::-1],
    "substr": substr,
    "title": title,
    "trim": trim,
    "trimprefix": lambda words, prefix: text(words).removeprefix(text(prefix)),
    "trimspace": lambda words: text(words).strip(),
    "trimsuffix": lambda words, suffix: text(words).removesuffix(text(suffix)),
    "upper": lambda words: text(words).upper(),
    "urlencode": lambda words: urllib.parse.quote_plus(text(words)),
    "uuidv4": lambda: str(uuid.uuid4()),
    "uuidv5": uuidv5,
}
