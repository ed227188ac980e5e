"""The words of a `# pybuild:` comment → a step's policies, and back.

Owns which policies there are, their values and which instruction takes which. Refuses to know what
they do: that is `builder/policy`. For docker it is a comment, so the file still builds there.
"""

import re
from collections.abc import Callable, Container, Iterator, Sequence

from grammar import ast
from grammar.errors import shown
from grammar.flags import did_you_mean
from grammar.leaves import Misread
from values.classes import dataclass

_WORD = re.compile(r"\S+")
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|d|h|m|s)")
_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([bkmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZES = {"t": 1 << 40, "g": 1 << 30, "m": 1 << 20, "k": 1 << 10, "b": 1}
_MOST_RETRIES = 100
_LEAST_MEMORY_BYTES = 4 << 20  # with less than that no shell starts
_MOST_CPUS = 10_000


class BadPolicy(Exception):
    """What a policy comment says is wrong, at a place: line and column, from 1."""

    def __init__(self, fault: Misread, line: int, column: int) -> None:
        super().__init__(fault.message)
        self.message = fault.message
        self.hint = fault.hint
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class _Kind:
    """A policy: the field of `ast.Policies` it is, who takes it, and how its value is read."""

    field: str
    instructions: tuple[str, ...]
    read: Callable[[str], object]
    example: str


def read(remarks: Sequence[ast.Remark], keyword: str) -> ast.Policies | None:
    """Return the policies of the comments above one instruction, None without any.

    keyword: the instruction's word, in upper case. Raises BadPolicy.
    """
    found: dict[str, object] = {}
    places: dict[str, tuple[ast.Remark, int]] = {}
    for remark in remarks:
        words = list(_WORD.finditer(remark.text))
        if not words:
            fault = Misread("no policy after pybuild:", 0, "as in pybuild: retry=3")
            raise _bad(remark, fault)
        for word in words:
            name = word[0].partition("=")[0]
            if name in places:
                raise _bad(remark, Misread(f"policy {name} is given twice", word.start()))
            try:
                field, found_value = _policy(word[0], word.start(), keyword)
            except Misread as wrong:
                raise _bad(remark, wrong) from None
            found[field] = found_value
            places[name] = remark, word.start()
    for name, message, hint in _contradictions(places):
        remark, offset = places[name]
        raise _bad(remark, Misread(message, offset, hint))
    return ast.Policies(**found) if found else None  # type: ignore[arg-type]


def _bad(remark: ast.Remark, fault: Misread) -> BadPolicy:
    return BadPolicy(fault, remark.line, remark.column + fault.offset)


def _contradictions(names: Container[str]) -> Iterator[tuple[str, str, str]]:
    """Yield policies that mean nothing beside or without others, with message and hint."""
    if "delay" in names and "retry" not in names:
        yield "delay", "policy delay needs retry", "as in retry=3 delay=5s"
    if "ttl" in names and "no-cache" in names:
        hint = "no-cache runs the step in every build"
        yield "ttl", "policy ttl means nothing beside no-cache", hint


def _policy(word: str, offset: int, keyword: str) -> tuple[str, object]:
    """Return the field and value of one word. Raises Misread."""
    name, equals, text = word.partition("=")
    kind = _KINDS.get(name)
    if kind is None:
        close = did_you_mean(name.lower().replace("_", "-"), _KINDS)
        raise Misread(f"unknown policy {shown(name)}", offset, close or _choice(keyword))
    if keyword not in kind.instructions:
        takers = ", ".join(kind.instructions)
        raise Misread(f"{keyword} has no policy {name}", offset, f"it is for {takers}")
    if not kind.example:
        if equals:
            raise Misread(f"policy {name} takes no value", offset, f"write {name} alone")
        return kind.field, True
    if not text:
        hint = f"as in {name}={kind.example}"
        raise Misread(f"policy {name} needs a value", offset, hint)
    try:
        return kind.field, kind.read(text)
    except ValueError as error:
        at = offset + len(name) + 1
        hint = f"as in {name}={kind.example}"
        raise Misread(f"policy {name}: {shown(text)} is {error}", at, hint) from None


def _choice(keyword: str) -> str:
    names = [name for name, kind in _KINDS.items() if keyword in kind.instructions]
    return f"{keyword} takes {', '.join(names)}" if names else f"{keyword} takes no policies"


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not 0 < int(text) <= _MOST_RETRIES:
        raise ValueError(f"no number from 1 to {_MOST_RETRIES}")
    return int(text)


def _duration(text: str) -> int:
    """Return milliseconds."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("no duration")
    return round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))


def _some_duration(text: str) -> int:
    found = _duration(text)
    if not found:
        raise ValueError("no time at all")
    return found


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError("no size")
    size = int(float(found[1]) * _SIZES[found[2].lower() or "b"])
    if size < _LEAST_MEMORY_BYTES:
        raise ValueError("too little for any process")
    return size


def _cpus(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,2})?", text) or not 0 < float(text) <= _MOST_CPUS:
        raise ValueError(f"no number of processors from 0.01 to {_MOST_CPUS}")
    return float(text)


def _secret_key(text: str) -> bool:
    if text != "content":
        raise ValueError("not content, the only value there is")
    return True


_KINDS: dict[str, _Kind] = {
    "retry": _Kind("retry", ("RUN", "ADD"), _count, "3"),
    "delay": _Kind("delay_ms", ("RUN", "ADD"), _duration, "5s"),
    "timeout": _Kind("timeout_ms", ("RUN", "ADD"), _some_duration, "10m"),
    "memory": _Kind("memory_bytes", ("RUN",), _size, "2g"),
    "cpus": _Kind("cpus", ("RUN",), _cpus, "1.5"),
    "no-cache": _Kind("no_cache", ("RUN", "COPY", "ADD"), bool, ""),
    "ttl": _Kind("ttl_ms", ("RUN", "COPY", "ADD"), _some_duration, "24h"),
    "secret-key": _Kind("secret_key", ("RUN",), _secret_key, "content"),
}
NAMES = tuple(_KINDS)


def to_text(policies: ast.Policies) -> str:
    """Return policies as a comment has them behind `pybuild:`."""
    given = ((name, kind, getattr(policies, kind.field)) for name, kind in _KINDS.items())
    return " ".join(
        f"{name}={_value_text(kind, value)}" if kind.example else name
        for name, kind, value in given
        if value
    )


def _value_text(kind: _Kind, value: float) -> str:
    """Return a value as it is written; of a field that is True the example is the only one."""
    if kind.field.endswith("_ms"):
        return duration_text(int(value))
    if kind.field.endswith("_bytes"):
        return size_text(int(value))
    return kind.example if isinstance(value, bool) else f"{value:g}"


def duration_text(milliseconds: int) -> str:
    """Return a duration in the largest unit up to hours that it is a whole number of: `90m`."""
    unit = next(unit for unit in ("h", "m", "s", "ms") if milliseconds % _UNITS_MS[unit] == 0)
    return f"{milliseconds // _UNITS_MS[unit]}{unit}"


def size_text(size_bytes: int) -> str:
    """Return a size in the largest binary unit that it is a whole number of: `2g`, `1536m`."""
    unit = next(unit for unit, bytes_ in _SIZES.items() if size_bytes % bytes_ == 0)
    return f"{size_bytes // _SIZES[unit]}{unit}"
