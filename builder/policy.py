"""A step's policies: which of its vertices have them, and whether they let a record be used.

This is the one place that says so, for builds, forecasts and what is remembered of whole builds.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.vertex import NO_POLICIES, CopyOp, DownloadOp, GitOp, Op, RunOp, Vertex
from grammar import ast
from values.classes import replace

if TYPE_CHECKING:
    from builder.causes import Cause
    from store.buildrecords import BuildRecord, BuildRecords
    from store.digest import Digest

# Memos: when the step of a key last ran, where its record is of the run whose layer it took.
_RAN = "ran"
_UNITS_MS = ((3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms"))


def policies_of(node: ast.Instruction, op: Op) -> ast.Policies:
    """Return those policies of an instruction that one of its operations has."""
    given = node.policies
    if given is None:
        return NO_POLICIES
    match op:
        case RunOp():
            return given
        case DownloadOp() | GitOp():
            return replace(given, ttl_ms=0)
        case CopyOp():
            return ast.Policies(no_cache=given.no_cache, ttl_ms=given.ttl_ms)
    return NO_POLICIES


def text_of(vertex: Vertex) -> str:
    """Return a vertex's policies as its comment has them, "" without any."""
    if vertex.policies == NO_POLICIES:
        return ""
    from grammar.policies import to_text

    return to_text(vertex.policies)


def runs_always(vertex: Vertex) -> bool:
    """Tell whether no record of an earlier build may be used, whatever its age."""
    return vertex.no_cache or vertex.policies.no_cache


def is_usable(vertex: Vertex, record: "BuildRecord", records: "BuildRecords") -> bool:
    """Tell whether a vertex's policies let a record of its key be used now."""
    if runs_always(vertex):
        return False
    over_ns = expires_ns(vertex, record, records)
    return over_ns is None or time.time_ns() < over_ns


def expires_ns(vertex: Vertex, record: "BuildRecord", records: "BuildRecords") -> int | None:
    """Return from when on (ns since the epoch) a record may not be used, None for never."""
    ttl_ms = vertex.policies.ttl_ms
    return last_run_ns(record, records) + ttl_ms * 1_000_000 if ttl_ms else None


def refusal(vertex: Vertex, record: "BuildRecord", records: "BuildRecords") -> "Cause | None":
    """Return why a vertex may not use a record of its key, None where it may."""
    from builder.causes import Cause

    if runs_always(vertex):
        return refused_always(vertex)
    if is_usable(vertex, record, records):
        return None
    ttl = duration_words(vertex.policies.ttl_ms)
    age_ns = time.time_ns() - last_run_ns(record, records)
    age = age_words(age_ns // 1_000_000)
    return Cause("ttl", f"ttl of {ttl} is over (record is {age} old)", age, ttl)


def refused_always(vertex: Vertex) -> "Cause":
    """Return why a vertex that `runs_always` does."""
    from builder.causes import Cause

    asked = "asked for with --no-cache" if vertex.no_cache else "its policy is no-cache"
    return Cause("no-cache", asked)


def note_run(records: "BuildRecords", key: "Digest") -> None:
    """Note that the step of a key ran now, though its record is of an earlier run."""
    records.remember(_RAN, key, str(time.time_ns()))


def last_run_ns(record: "BuildRecord", records: "BuildRecords") -> int:
    """Return when the step of a record last ran (ns since the epoch)."""
    noted = records.recall(_RAN, record.key) or ""
    return max(record.ended_ns, int(noted) if noted.isdecimal() else 0)


def duration_words(milliseconds: int) -> str:
    """Return a duration in the largest unit up to hours that it is a whole number of: `90 min`."""
    size, unit = next(row for row in _UNITS_MS if milliseconds % row[0] == 0)
    return f"{milliseconds // size} {unit}"


def age_words(milliseconds: int) -> str:
    """Return how old something is, in units of which it is at least two, rounded down: `30 h`."""
    size, unit = next((row for row in _UNITS_MS if milliseconds >= 2 * row[0]), _UNITS_MS[-1])
    return f"{milliseconds // size} {unit}"


def bytes_words(size_bytes: int) -> str:
    """Return a size in its largest binary unit, three digits: `1.95 GiB`."""
    power = max(0, min(4, (size_bytes.bit_length() - 1) // 10))
    return f"{size_bytes / (1 << 10 * power):.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def facts_of(vertex: Vertex) -> Mapping[str, object]:
    """Return what the journal says of a vertex's policies."""
    text = text_of(vertex)
    return {"policies": text} if text else {}
