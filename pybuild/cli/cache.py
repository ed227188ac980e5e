"""The verbs cache ls and cache du: what the build cache holds, as buildx shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pybuild.cli.listing import listing
from pybuild.cli.options import Option, Parsed, Syntax, flag, many, value
from pybuild.cli.table import ago, human_size, local_time, shortened
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from pybuild.engine.cacheentries import CacheEntry, CacheView

_CHOICE: tuple[Option, ...] = (
    many("filter", "KEY=VALUE", "id, type, parents, description, until, inuse, shared, …"),
    value("format", "FORM", "table, json or a template: {{.ID}} {{.Size}} …"),
    flag("no-trunc", "show everything in full"),
)
LS = Syntax(
    verb="cache ls",
    usage="cache ls [OPTIONS]",
    summary="List what the build cache holds, what was used last first.",
    options=(
        flag("all", "what is only remembered too: its files are gone", "a"),
        *_CHOICE,
        flag("quiet", "show IDs only", "q"),
        flag("verbose", "show all that is known of each", "v"),
    ),
)
DU = Syntax(
    verb="cache du",
    usage="cache du [OPTIONS]",
    summary="Show what the build cache takes on disk, in buildx's table.",
    options=(*_CHOICE, flag("verbose", "show all that is known of each", "v")),
    later="builder timeout",
)

_LS_COLUMNS = {
    "ID": "ID",
    "Type": "TYPE",
    "Size": "SIZE",
    "LastUsedSince": "LAST ACCESSED",
    "UsageCount": "USED",
    "Description": "DESCRIPTION",
}
_DU_COLUMNS = {
    "ID": "ID",
    "Reclaimable": "RECLAIMABLE",
    "Size": "SIZE",
    "LastUsedSince": "LAST ACCESSED",
}
_ID_WIDTH = 25  # as BuildKit's
_DESCRIPTION_WIDTH = 60


def ls(parsed: Parsed, session: Session) -> int:
    """List the entries of the cache."""
    with session.engine(reading=True) as engine:
        view = engine.cache_view(parsed.many("filter"))
    entries = [entry for entry in view.entries if parsed.flag("all") or entry.parts]
    form = parsed.text("format")
    rows = [row(entry, whole=_is_whole(parsed)) for entry in entries]
    if parsed.flag("quiet"):
        print("".join(f"{cells['ID']}\n" for cells in rows), end="")
    elif parsed.flag("verbose"):
        print(verbose(entries), end="")
    else:
        print(listing(rows, _LS_COLUMNS, form), end="")
    return 0


def du(parsed: Parsed, session: Session) -> int:
    """Show what the entries take, and the sums."""
    with session.engine(reading=True) as engine:
        view = engine.cache_view(parsed.many("filter"))
    entries = [entry for entry in view.entries if entry.parts]
    form = parsed.text("format")
    if parsed.flag("verbose") and form is None:
        print(verbose(entries), end="")
    else:
        print(du_table(entries, form, whole=_is_whole(parsed)), end="")
    if form is None:
        print(sums(view), end="")
    return 0


VERBS = {"cache ls": Verb(LS, ls), "cache du": Verb(DU, du)}


def du_table(entries: list[CacheEntry], form: str | None = None, *, whole: bool = False) -> str:
    """Return buildx's table of `entries`: a `*` marks what can change and what is shared."""
    rows = [row(entry, whole=whole) for entry in entries]
    if form is None:
        for cells, entry in zip(rows, entries, strict=True):
            cells["ID"] += "*" if entry.is_mutable else ""
            cells["Size"] += "*" if entry.is_shared else ""
    return listing(rows, _DU_COLUMNS, form)


def row(entry: CacheEntry, *, whole: bool) -> dict[str, str]:
    """Return an entry under the names of buildx's placeholders.

    Source: buildx `commands/du.go`, diskusageContext.
    """
    text = entry.description
    return {
        "ID": entry.id if whole else entry.id[:_ID_WIDTH],
        "Parents": ", ".join(entry.parents),
        "CreatedAt": local_time(_moment(entry.created_s)),
        "Mutable": _boolean(entry.is_mutable),
        "Reclaimable": _boolean(not entry.is_in_use),
        "Shared": _boolean(entry.is_shared),
        "Size": human_size(entry.size_bytes) if entry.parts else "gone",
        "Description": text if whole else shortened(text, _DESCRIPTION_WIDTH),
        "UsageCount": str(entry.uses),
        "LastUsedAt": local_time(_moment(entry.used_s)),
        "LastUsedSince": ago(_moment(entry.used_s)),
        "Type": entry.type,
    }


def verbose(entries: list[CacheEntry]) -> str:
    """Return a block of lines for each entry, as `buildx du --verbose` prints them."""
    blocks = []
    for entry in entries:
        cells = row(entry, whole=True)
        pairs = {
            "ID": cells["ID"],
            "Parents": ",".join(entry.parents),
            "Created at": cells["CreatedAt"],
            "Mutable": cells["Mutable"],
            "Reclaimable": cells["Reclaimable"],
            "Shared": cells["Shared"],
            "Size": cells["Size"],
            "Description": cells["Description"],
            "Usage count": cells["UsageCount"],
            "Last used": cells["LastUsedSince"],
            "Type": cells["Type"],
        }
        width = 1 + max(map(len, pairs))
        lines = [f"{name + ':':<{width}}  {text}\n" for name, text in pairs.items() if text]
        blocks.append("".join(lines) + "\n")
    return "".join(blocks)


def sums(view: CacheView) -> str:
    """Return the last lines of `du`: parts that several entries have count once."""
    from pybuild.engine.cacheentries import sizes

    held = [entry for entry in view.entries if entry.is_held]
    total = view.total_bytes(shared=True)
    private = view.total_bytes()
    in_use = sum(
        size
        for part, size in sizes(entry for entry in held if entry.is_in_use).items()
        if part not in view.pinned
    )
    lines = {"Reclaimable": private - in_use, "Total": total}
    if total != private:
        lines = {"Shared": total - private, "Private": private, **lines}
    return "".join(f"{name + ':':<13} {human_size(count)}\n" for name, count in lines.items())


def _is_whole(parsed: Parsed) -> bool:
    """Tell whether nothing is to be cut: only a table for people is."""
    form = parsed.text("format")
    return parsed.flag("no-trunc") or (form is not None and not form.startswith("table"))


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _boolean(fact: bool) -> str:
    return "true" if fact else "false"
