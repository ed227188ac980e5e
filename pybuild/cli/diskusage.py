"""The verb system df."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.cli.listing import listing
from pybuild.cli.options import Parsed, Syntax, flag, value
from pybuild.cli.table import human_size
from pybuild.cli.verb import Session, Verb
from pybuild.errors import UsageError

if TYPE_CHECKING:
    from pybuild.engine.diskusage import Usage

DF = Syntax(
    verb="system df",
    usage="system df [OPTIONS]",
    summary="Show what images, containers and the build cache take on disk.",
    options=(
        value("format", "FORM", "table, json or a template: {{.Type}} {{.Size}} …"),
        flag("verbose", "with the build cache's entries", "v"),
    ),
)

_COLUMNS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def df(parsed: Parsed, session: Session) -> int:
    """Print docker's table."""
    form = parsed.text("format")
    if parsed.flag("verbose") and form is not None:
        raise UsageError("system df: the format option is not compatible with --verbose")
    with session.engine(reading=True) as engine:
        rows = [_row(usage) for usage in engine.disk_usage()]
        view = engine.cache_view() if parsed.flag("verbose") else None
    print(listing(rows, _COLUMNS, form), end="")
    if view is not None:
        from pybuild.cli.cache import du_table

        print("\nBuild cache usage:\n")
        print(du_table([entry for entry in view.entries if entry.parts]), end="")
    return 0


VERBS = {"system df": Verb(DF, df)}


def _row(usage: Usage) -> dict[str, str]:
    reclaimable = human_size(usage.reclaimable_bytes)
    if usage.size_bytes and usage.kind != "Build Cache":
        reclaimable += f" ({100 * usage.reclaimable_bytes // usage.size_bytes}%)"
    return {
        "Type": usage.kind,
        "TotalCount": str(usage.total),
        "Active": str(usage.active),
        "Size": human_size(usage.size_bytes),
        "Reclaimable": reclaimable,
    }
