"""Finding the values of secrets in bytes: as they are, and in base64.

Pure: knows values and streams, not where either comes from. A value is looked for without the line
ends at its end, whole, at any place. Its base64 is looked for in the three ways that it can lie in
the groups of an encoded text, in both alphabets, with line ends anywhere in it. Of a value of
several lines it does not matter how they end, and of a PEM text what lies between its first and its
last line counts too. What is encrypted or encoded otherwise is not seen.
"""

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping

from values.classes import dataclass, field

SHORTEST_BYTES = 8
_PEM = re.compile(rb"-----BEGIN [^-]+-----(.*?)-----END ")


def trimmed(value: bytes) -> bytes:
    """Return a value without the line ends at its end, which files have and variables have not."""
    return value.rstrip(b"\r\n")


def is_short(value: bytes) -> bool:
    """Tell whether a value is too short to be looked for: it might be anywhere by chance."""
    return len(value.strip()) < SHORTEST_BYTES


def encodings(value: bytes) -> frozenset[bytes]:
    """Return what of a value's base64 does not depend on the bytes around it."""
    found = set()
    for before in range(3):
        # Of the first characters bits are of the bytes before, of the last one of those after.
        first, end = -(-before * 8 // 6), (before + len(value)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            found.add(encode(bytes(before) + value)[first:end])
    return frozenset(found)


def without_lines(value: bytes) -> frozenset[bytes]:
    """Return what of a value of several lines counts without their ends."""
    whole = joined(value)
    if whole == value:
        return frozenset()
    pem = _PEM.search(whole)
    found = {whole, pem[1]} if pem is not None else {whole}
    return frozenset(text for text in found if not is_short(text))


@dataclass(frozen=True, slots=True)
class Needles:
    """What to look for, with the id of the secret that it is of. longest: in bytes."""

    plain: tuple[tuple[str, bytes], ...] = ()
    encoded: tuple[tuple[str, bytes], ...] = ()
    longest: int = 0

    def __bool__(self) -> bool:
        return bool(self.plain)

    def found_in(self, data: bytes) -> set[str]:
        """Return the ids of the secrets whose values are in `data`."""
        return set(self._plain_in(data)) | set(self._encoded_in(joined(data)))

    def found_in_text(self, text: str) -> set[str]:
        """Return the ids of the secrets whose values are in `text`."""
        return self.found_in(text.encode("utf-8", "surrogateescape"))

    def hidden(self, text: str, mask: str = "****") -> str:
        """Return `text` with the values and their encodings masked."""
        data = text.encode("utf-8", "surrogateescape")
        for _, needle in sorted((*self.plain, *self.encoded), key=lambda item: -len(item[1])):
            data = data.replace(needle, mask.encode())
        return data.decode("utf-8", "surrogateescape")

    def _plain_in(self, data: bytes) -> Iterator[str]:
        return (name for name, needle in self.plain if needle in data)

    def _encoded_in(self, data: bytes) -> Iterator[str]:
        return (name for name, needle in self.encoded if needle in data)


def needles_of(values: Mapping[str, bytes]) -> Needles:
    """Return what to look for; values are by their secrets' ids. Short ones are left out."""
    kept = [(name, trimmed(value)) for name, value in values.items()]
    plain = tuple((name, value) for name, value in kept if not is_short(value))
    encoded = tuple(
        (name, text)
        for name, value in plain
        for text in sorted(encodings(value) | without_lines(value))
    )
    return Needles(plain, encoded, max((len(text) for _, text in (*plain, *encoded)), default=0))


def joined(data: bytes) -> bytes:
    """Return `data` without line ends: encoders break lines anywhere."""
    return data.translate(None, b"\r\n")


@dataclass(slots=True)
class StreamSearch:
    """A search through the bytes of one file as they pass by. found: ids of secrets, so far."""

    needles: Needles
    found: set[str] = field(default_factory=set)
    _plain_tail: bytes = b""
    _joined_tail: bytes = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; a value may lie across pieces."""
        kept = self.needles.longest - 1
        window = self._plain_tail + data
        self.found.update(self.needles._plain_in(window))
        self._plain_tail = window[-kept:]
        window = self._joined_tail + joined(data)
        self.found.update(self.needles._encoded_in(window))
        self._joined_tail = window[-kept:]
