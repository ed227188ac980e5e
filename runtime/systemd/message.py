"""D-Bus messages as bytes, as far as systemd's manager needs them. Pure.

Our own because the process that speaks it is a bare interpreter without installed packages, where
each module counts in milliseconds. Source: D-Bus Specification, "Type System", "Message Protocol".
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CALL, REPLY, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_TO, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_FIXED = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "b": "I", "x": "q", "t": "Q", "d": "d"}
_ALIGNMENT = {"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "x": 8, "t": 8, "d": 8, "(": 8, "{": 8}
_HEAD = 16  # bytes up to the length of the header's fields, which is the last four of them
_LONGEST = 1 << 27  # bytes of a message


class Malformed(ValueError):
    """Bytes that are no message."""


class Message:
    """A message that came. kind: CALL … SIGNAL. name: of the error, or the member of a signal."""

    def __init__(
        self, kind: int, reply_to: int, name: str, signature: str, body: bytes, order: str
    ) -> None:
        self.kind = kind
        self.reply_to = reply_to
        self.name = name
        self._signature = signature
        self._body = body
        self._order = order

    def values(self) -> "list[Any]":
        """Return what the message says. Raises Malformed."""
        try:
            return _Reader(self._body, self._order).take_all(self._signature)
        except (struct.error, IndexError, UnicodeDecodeError, KeyError, RecursionError) as error:
            raise Malformed(f"body of type {self._signature!r}: {error}") from error


def split(signature: str) -> "list[str]":
    """Return the complete types that a signature is made of."""
    types, at = [], 0
    while at < len(signature):
        begin = at
        while signature[at] == "a":
            at += 1
        depth = 0
        while True:
            depth += (signature[at] in "({") - (signature[at] in ")}")
            at += 1
            if not depth:
                break
        types.append(signature[begin:at])
    return types


def call(
    serial: int,
    destination: str,
    path: str,
    method: str,
    signature: str = "",
    values: "tuple[object, ...]" = (),
) -> bytes:
    """Return a method call.

    destination: empty where there is no bus between. method: with its interface before it.
    """
    interface, _, member = method.rpartition(".")
    body = bytearray()
    for kind, value in zip(split(signature), values, strict=True):
        _put(body, kind, value)
    fields: list[tuple[int, tuple[str, object]]] = [(_PATH, ("o", path))]
    fields += [(_INTERFACE, ("s", interface)), (_MEMBER, ("s", member))]
    if destination:
        fields.append((_DESTINATION, ("s", destination)))
    if signature:
        fields.append((_SIGNATURE, ("g", signature)))
    head = bytearray(struct.pack("<cBBBII", b"l", CALL, 0, 1, len(body), serial))
    _put(head, "a(yv)", fields)
    _pad(head, 8)
    return bytes(head + body)


def _pad(out: bytearray, alignment: int) -> None:
    out += bytes(-len(out) % alignment)


def _put(out: bytearray, signature: str, value: "Any") -> None:
    kind = signature[0]
    _pad(out, _ALIGNMENT.get(kind, 4))
    if kind in _FIXED:
        out += struct.pack("<" + _FIXED[kind], value)
    elif kind in "so":
        data = value.encode("utf-8", "surrogateescape")
        out += struct.pack("<I", len(data)) + data + b"\0"
    elif kind == "g":
        out += bytes([len(value)]) + value.encode() + b"\0"
    elif kind == "v":
        _put(out, "g", value[0])
        _put(out, value[0], value[1])
    elif kind == "a":
        at = len(out)
        out += bytes(4)
        _pad(out, _ALIGNMENT.get(signature[1], 4))
        begin = len(out)
        for item in value:
            _put(out, signature[1:], item)
        struct.pack_into("<I", out, at, len(out) - begin)
    else:
        for inner, item in zip(split(signature[1:-1]), value, strict=True):
            _put(out, inner, item)


def length(head: bytes) -> int:
    """Return how many bytes the message has that begins with these sixteen. Raises Malformed."""
    if head[:1] not in (b"l", b"B"):
        raise Malformed(f"no message begins with {head[:1]!r}")
    order = "<" if head[:1] == b"l" else ">"
    (body,) = struct.unpack_from(order + "I", head, 4)
    (fields,) = struct.unpack_from(order + "I", head, 12)
    size: int = _HEAD + (fields + 7) // 8 * 8 + body
    if size > _LONGEST:
        raise Malformed(f"a message of {size} bytes")
    return size


def parse(data: bytes) -> Message:
    """Return the message of exactly these bytes. Raises Malformed."""
    order = "<" if data[:1] == b"l" else ">"
    try:
        reader = _Reader(data, order)
        _, kind, _, _, body, _ = (reader.take(t) for t in "yyyyuu")
        fields = dict(reader.take("a(yv)"))
        name = fields.get(_ERROR_NAME if kind == ERROR else _MEMBER, "")
        reply_to = fields.get(_REPLY_TO, 0)
        signature = fields.get(_SIGNATURE, "")
        return Message(kind, reply_to, name, signature, data[len(data) - body :], order)
    except (struct.error, IndexError, UnicodeDecodeError, ValueError, KeyError) as error:
        raise Malformed(f"header: {error}") from error


class _Reader:
    def __init__(self, data: bytes, order: str) -> None:
        self._data = data
        self._order = order
        self._at = 0

    def take_all(self, signature: str) -> "list[Any]":
        return [self.take(kind) for kind in split(signature)]

    def take(self, signature: str) -> "Any":
        """Return the next value of a complete type; a variant is its value alone."""
        kind = signature[0]
        self._at += -self._at % _ALIGNMENT.get(kind, 4)
        if kind in _FIXED:
            return self._number(_FIXED[kind])
        if kind in "sog":
            return self._text(self._number("B" if kind == "g" else "I"))
        if kind == "v":
            return self.take(self.take("g"))
        if kind == "a":
            return self._array(signature[1:])
        return tuple(self.take(inner) for inner in split(signature[1:-1]))

    def _number(self, code: str) -> "Any":
        (value,) = struct.unpack_from(self._order + code, self._data, self._at)
        self._at += struct.calcsize("=" + code)
        return value

    def _text(self, size: int) -> str:
        if self._at + size >= len(self._data):
            raise IndexError("a text is longer than its message")
        text = self._data[self._at : self._at + size].decode()
        self._at += size + 1
        return text

    def _array(self, inner: str) -> "list[Any]":
        size = self._number("I")
        self._at += -self._at % _ALIGNMENT.get(inner[0], 4)
        end = self._at + size
        found = []
        while self._at < end:
            begin = self._at
            found.append(self.take(inner))
            if self._at == begin:
                raise IndexError("an array of nothing")
        return found
