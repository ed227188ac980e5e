"""The verb cache ls."""

from __future__ import annotations

from pybuild.cli.listing import listing
from pybuild.cli.options import Parsed, Syntax, flag, value
from pybuild.cli.table import ago, human_size, parse_time, short_id, shortened
from pybuild.cli.verb import Session, Verb

LS = Syntax(
    verb="cache ls",
    usage="cache ls [OPTIONS]",
    summary="List what the build cache remembers: a line a result, the newest first.",
    options=(
        value("format", "FORM", "table, json or a template: {{.ID}} {{.Step}} …"),
        flag("no-trunc", "show everything in full"),
        flag("quiet", "show keys only", "q"),
    ),
    later="filter/f verbose",
)

_COLUMNS = {
    "ID": "KEY",
    "CreatedSince": "CREATED",
    "Duration": "TOOK",
    "Size": "SIZE",
    "Stage": "STAGE",
    "Step": "STEP",
}
_STEP_WIDTH = 60


def ls(parsed: Parsed, session: Session) -> int:
    """List the records of the build cache."""
    whole = parsed.flag("no-trunc")
    with session.engine() as engine:
        entries = engine.cache_entries()
    rows = []
    for entry in entries:
        record = entry.record
        title = " ".join(record.title.split())
        rows.append(
            {
                "ID": record.key if whole else short_id(record.key),
                "CreatedSince": ago(parse_time(record.created)),
                "CreatedAt": record.created,
                "Duration": f"{(record.ended_ns - record.started_ns) / 1e9:.1f}s",
                "Size": human_size(entry.size_bytes) if entry.is_present else "gone",
                "Stage": record.stage,
                "Step": title if whole else shortened(title, _STEP_WIDTH),
                "Layers": ",".join(record.diff_ids),
                "Dockerfile": record.dockerfile,
            }
        )
    if parsed.flag("quiet"):
        print("".join(f"{row['ID']}\n" for row in rows), end="")
    else:
        print(listing(rows, _COLUMNS, parsed.text("format")), end="")
    return 0


VERBS = {"cache ls": Verb(LS, ls)}
