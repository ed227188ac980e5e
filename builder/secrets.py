"""Secrets of a build: where their values come from, and keeping them out of what is written.

Values live in memory only. They are read when a step first needs them, never for a cache key.
"""

import os
import stat
import threading
from collections.abc import Callable, Sequence

from builder.errors import BuildError
from builder.request import SecretSource
from values.classes import dataclass, field

_LONGEST_BYTES = 16 << 20
_SHORTEST_MASKED = 4
MASK = b"****"


@dataclass(slots=True)
class Secrets:
    """The secrets that a build may show to its steps.

    key_agent: gives the socket of the agent that git is shown, None where there is none.
    """

    sources: tuple[SecretSource, ...] = ()
    key_agent: Callable[[], str | None] = lambda: None
    _values: dict[str, bytes] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """Raise BuildError for a file that is not there, before anything runs."""
        for source in self.sources:
            path = _path_of(source)
            if path is not None and not os.path.exists(path):
                raise BuildError(f"secret {source.id}: {path}: no such file")

    def value(self, id_: str) -> bytes | None:
        """Return the value of a secret, None where the build was given none of that name.

        A file is read once: it may be a pipe. Raises BuildError when it cannot be read.
        """
        with self._lock:
            known = self._values.get(id_)
            if known is not None:
                return known
            source = next((item for item in reversed(self.sources) if item.id == id_), None)
            value = None if source is None else _read(source)
            if value is not None:
                self._values[id_] = value
            return value

    def searchable(self) -> dict[str, bytes]:
        """Return the values that are known or can be read again, by their ids.

        A pipe's is known once a step needed it. Raises BuildError when a file cannot be read.
        """
        found = {}
        for name in dict.fromkeys(source.id for source in self.sources):
            source = next(item for item in reversed(self.sources) if item.id == name)
            path = _path_of(source)
            if path is None or name in self._values or _is_regular(path):
                value = self.value(name)
                if value is not None:
                    found[name] = value
        return found


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _path_of(source: SecretSource) -> str | None:
    """Return the file that a secret comes from, None for a variable."""
    if source.path is not None or source.variable is not None:
        return source.path
    return None if source.id in os.environ else source.id


def _read(source: SecretSource) -> bytes | None:
    path = _path_of(source)
    if path is None:
        text = os.environ.get(source.variable or source.id)
        return None if text is None else os.fsencode(text)
    try:
        with open(path, "rb") as file:
            value = file.read(_LONGEST_BYTES + 1)
    except OSError as error:
        raise BuildError(
            f"secret {source.id}: {path}: {(error.strerror or str(error)).lower()}"
        ) from error
    if len(value) > _LONGEST_BYTES:
        raise BuildError(f"secret {source.id}: {path}: larger than {_LONGEST_BYTES >> 20} MiB")
    return value


class Masker:
    """Replaces secret values in a stream of bytes, also where one is cut into pieces.

    Masked is a value without the line ends around it and, where it has several lines, each of
    them; what is shorter than four bytes is not, since it is in every text.
    """

    def __init__(self, values: Sequence[bytes]) -> None:
        words = {word for value in values for word in (value, *value.splitlines())}
        stripped = {word.strip(b"\r\n") for word in words}
        kept = {word for word in stripped if len(word.strip()) >= _SHORTEST_MASKED}
        self._words = sorted(kept, key=len, reverse=True)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes, return those that are known not to be the start of a secret."""
        if not self._words:
            return data
        text = self._masked(self._held + data)
        keep = max((_overlap(text, word) for word in self._words), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> bytes:
        """Return what was held back: no more is coming."""
        held, self._held = self._held, b""
        return held

    def _masked(self, text: bytes) -> bytes:
        for word in self._words:
            text = text.replace(word, MASK)
        return text


def _overlap(text: bytes, word: bytes) -> int:
    """Return how long the longest end of `text` is that `word` begins with, short of all of it."""
    for length in range(min(len(text), len(word) - 1), 0, -1):
        if text.endswith(word[:length]):
            return length
    return 0
