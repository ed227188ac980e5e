"""The steps of the last build that was exported to a cache, and what their keys were made of.

A machine that has never built compares with them to say why its steps run. One note a cache and
Dockerfile, replaced by every export: unlike a record nobody's result depends on it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from builder.cachekey import SECRETS
from builder.vertex import Vertex
from store.buildjournal import BuildRow, StepRow
from store.buildrecords import BuildRecord
from store.digest import Digest, digest_of, hex_of
from values.classes import dataclass

VERSION = 1
MEDIA_TYPE = "application/vnd.pybuild.cache.steps.v1+json"
_LONGEST = 1 << 18  # bytes of one step's ingredients; beyond, its files are left out
_NAME_DIGITS = 16


@dataclass(frozen=True, slots=True)
class LastSteps:
    """A build that was exported: its row as a journal would have it, and its steps' records."""

    build: BuildRow
    steps: tuple[tuple[StepRow, BuildRecord], ...]


def note_name(dockerfile: str) -> str:
    """Return what the note about a Dockerfile is called in a cache."""
    return f"why-{hex_of(digest_of(dockerfile.encode(errors='surrogateescape')))[:_NAME_DIGITS]}"


def note_of(
    records: Mapping[str, BuildRecord], vertices: Iterable[Vertex], ignored: Sequence[str] | None
) -> bytes:
    """Return the note about a build. records: by vertex. ignored: patterns of the ignore file."""
    steps = []
    for vertex in vertices:
        record = records.get(vertex.id)
        if record is not None and SECRETS not in record.ingredients:
            kept = {"key": record.key, "ingredients": _shortened(record.ingredients)}
            steps.append(
                {"stage": vertex.stage, "title": vertex.title, "step": vertex.step, **kept}
            )
    fields = {"version": VERSION, "ignore": list(ignored or ()), "steps": steps}
    return json.dumps(fields, separators=(",", ":")).encode()


def read_note(data: bytes) -> LastSteps | None:
    """Return what a note says, None where it says nothing that is understood here."""
    try:
        fields = json.loads(data)
        if fields["version"] != VERSION:
            return None
        build = BuildRow("", 0, details={"ignore": list(fields["ignore"])})
        return LastSteps(build, tuple(map(_step, fields["steps"])))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _step(fields: Mapping[str, object]) -> tuple[StepRow, BuildRecord]:
    ingredients, step = fields["ingredients"], fields["step"]
    if not isinstance(ingredients, dict) or not isinstance(step, int):
        raise TypeError
    key = str(fields["key"])
    row = StepRow("", 0, str(fields["title"]), str(fields["stage"]), step, key)
    return row, BuildRecord(Digest(key), (), ingredients=ingredients)


def _shortened(ingredients: Mapping[str, object]) -> Mapping[str, object]:
    if len(json.dumps(ingredients)) <= _LONGEST:
        return ingredients
    return {**ingredients, "files": []}
