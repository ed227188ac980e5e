"""Annotations `org.systemd.property.NAME`: a property of the scope, its value as gvariant text.

Source: runc, docs/systemd.md, "Auxiliary properties"; GVariant Text Format.
"""

from runtime.errors import InvalidSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    # name, D-Bus type, value
    Property = tuple[str, str, object]

_PREFIX = "org.systemd.property."
# word: (D-Bus type, whether signed, bits)
_NUMBERS = {
    "byte": ("y", 0, 8),
    "int16": ("n", 1, 16),
    "uint16": ("q", 0, 16),
    "int32": ("i", 1, 32),
    "uint32": ("u", 0, 32),
    "int64": ("x", 1, 64),
    "uint64": ("t", 0, 64),
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}
_KNOWN = "known are true, false, numbers, 'text', ['text', …]"


def annotated(annotations: "Mapping[str, str]") -> "list[Property]":
    """Return the properties that annotations ask for, in their order. Raises InvalidSpec."""
    found: list[Property] = []
    for key, text in annotations.items():
        name = key.removeprefix(_PREFIX)
        if name == key:
            continue
        if len(name) < 3 or not (name.isascii() and name.isalpha()):
            raise InvalidSpec(f"annotations: {key}: {name!r} is no name of a property")
        try:
            kind, value = parse(text)
            # Documented in seconds, set in microseconds: runc and crun convert too.
            if name.endswith("Sec") and name[-4].islower():
                name, kind, value = f"{name[:-3]}USec", "t", _microseconds(value)
        except ValueError as error:
            raise InvalidSpec(f"annotations: {key}: {text!r}: {error}") from error
        found.append((name, kind, value))
    return found


def _microseconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError("no number of seconds")
    return int(value * 1_000_000)


def parse(text: str) -> "tuple[str, object]":
    """Return (D-Bus type, value) of a gvariant. Raises ValueError for one of another kind."""
    text = text.strip()
    if text in ("true", "false"):
        return "b", text == "true"
    if text[:1] == "[":
        return "as", _texts(text)
    if text[:1] in ("'", '"'):
        value, rest = _text(text)
        if rest.strip():
            raise ValueError(f"{rest.strip()!r} follows the text")
        return "s", value
    return _number(text)


def _number(text: str) -> "tuple[str, object]":
    word, _, digits = text.rpartition(" ")
    word = word.strip() or ("double" if "." in digits else "int32")
    try:
        if word == "double":
            return "d", float(digits)
        kind, signed, bits = _NUMBERS[word]
        value = int(digits, 16 if digits.lower().lstrip("-").startswith("0x") else 10)
    except (KeyError, ValueError):
        raise ValueError(f"not a value of a known type: {_KNOWN}") from None
    bound = 1 << (bits - signed)
    if not -bound * signed <= value < bound:
        raise ValueError(f"{value} is no {word}")
    return kind, value


def _texts(text: str) -> "list[str]":
    found: list[str] = []
    rest = text[1:].lstrip()
    while rest[:1] != "]":
        if found:
            if rest[:1] != ",":
                raise ValueError(f"not a list of texts: {_KNOWN}")
            rest = rest[1:].lstrip()
        value, rest = _text(rest)
        found.append(value)
        rest = rest.lstrip()
    if rest[1:].strip():
        raise ValueError(f"{rest[1:].strip()!r} follows the list")
    return found


def _text(text: str) -> "tuple[str, str]":
    """Return the text in quotes at the beginning, and what follows it."""
    quote, at, found = text[:1], 1, ""
    if quote not in ("'", '"'):
        raise ValueError(f"not a list of texts: {_KNOWN}")
    while at < len(text):
        char = text[at]
        if char == quote:
            return found, text[at + 1 :]
        if char == "\\":
            at += 1
            char = _ESCAPES.get(text[at : at + 1], text[at : at + 1])
        found += char
        at += 1
    raise ValueError("the text has no end")
