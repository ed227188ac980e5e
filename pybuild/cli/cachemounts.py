"""The verbs cache mounts ls, tree, rm, export and import."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from pybuild.cli.listing import listing
from pybuild.cli.options import Parsed, Syntax, flag, value
from pybuild.cli.table import ago, human_size
from pybuild.cli.verb import Session, Verb
from pybuild.errors import UsageError

LS = Syntax(
    verb="cache mounts ls",
    usage="cache mounts ls [OPTIONS]",
    summary="List the directories of RUN --mount=type=cache.",
    options=(
        value("format", "FORM", "table, json or a template: {{.ID}} {{.Size}} …"),
        flag("quiet", "show ids only", "q"),
    ),
)
TREE = Syntax(
    verb="cache mounts tree",
    usage="cache mounts tree [OPTIONS] ID",
    summary="Show what is in a cache mount, and how big it is.",
    options=(value("depth", "N", "levels to show (default: 2)", "L"),),
    at_least=1,
    at_most=1,
)
RM = Syntax(
    verb="cache mounts rm",
    usage="cache mounts rm [OPTIONS] ID...",
    summary="Clear cache mounts: the next step that uses one finds it empty.",
    options=(flag("all", "clear all of them", "a"),),
    at_most=None,
)
EXPORT = Syntax(
    verb="cache mounts export",
    usage="cache mounts export [OPTIONS] [ID...]",
    summary="Write cache mounts, all unless some are named, to a tar that import reads.",
    options=(value("output", "FILE", "file to write (default: stdout)", "o"),),
    at_most=None,
)
IMPORT = Syntax(
    verb="cache mounts import",
    usage="cache mounts import [OPTIONS]",
    summary="Take in cache mounts that export wrote; they replace those of the same id.",
    options=(value("input", "FILE", "file to read (default: stdin)", "i"),),
)

_COLUMNS = {"ID": "ID", "Size": "SIZE", "Files": "FILES", "UsedSince": "USED"}


def ls(parsed: Parsed, session: Session) -> int:
    """List the cache mounts."""
    with session.engine(reading=True) as engine:
        found = engine.cache_mounts()
    rows = []
    for mount in found:
        used = datetime.fromtimestamp(mount.info.used_ns / 1e9, UTC) if mount.info.used_ns else None
        rows.append(
            {
                "ID": mount.info.key.id,
                "Base": mount.info.key.base,
                "Size": human_size(mount.size_bytes),
                "Files": str(mount.files),
                "UsedSince": ago(used),
                "UsedAt": used.isoformat() if used else "",
                "Paths": ",".join(mount.info.paths),
            }
        )
    if parsed.flag("quiet"):
        print("".join(f"{row['ID']}\n" for row in rows), end="")
    else:
        print(listing(rows, _COLUMNS, parsed.text("format")), end="")
    return 0


def tree(parsed: Parsed, session: Session) -> int:
    """Print what is in a cache mount."""
    text = parsed.text("depth") or "2"
    if not text.isdecimal():
        raise UsageError(f'cache mounts tree: --depth: "{text}" is no number')
    (id_,) = parsed.arguments
    with session.engine(reading=True) as engine:
        for lines in engine.cache_mount_trees(id_):
            for line in lines:
                if line.depth > int(text):
                    continue
                name = f"{line.name}/" if line.is_dir else line.name
                shown = f"{'  ' * line.depth}{id_ if not line.depth else name}"
                print(f"{human_size(line.size_bytes):>9}  {shown}")
    return 0


def remove(parsed: Parsed, session: Session) -> int:
    """Clear cache mounts and print the id of each."""
    if bool(parsed.arguments) == parsed.flag("all"):
        raise UsageError("cache mounts rm: name some, or --all", hint="cache mounts ls lists them")
    with session.engine(reading=True) as engine:
        for id_ in engine.remove_cache_mounts(parsed.arguments):
            print(id_)
    return 0


def export(parsed: Parsed, session: Session) -> int:
    """Write cache mounts to a file, which appears whole or not at all, or to stdout."""
    target = parsed.text("output") or "-"
    if target == "-" and sys.stdout.isatty():
        raise UsageError(
            "cache mounts export: an archive is not written to a terminal",
            hint="name a file with -o, or redirect stdout",
        )
    with session.engine(reading=True) as engine:
        if target == "-":
            engine.export_cache_mounts(parsed.arguments, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            engine.export_cache_mounts(parsed.arguments, target)
    return 0


def import_(parsed: Parsed, session: Session) -> int:
    """Take in cache mounts and print the id of each."""
    from pybuild.cli.archives import reading

    with session.engine() as engine, reading(parsed.text("input") or "-") as stream:
        for id_ in engine.import_cache_mounts(stream):
            print(id_)
    return 0


VERBS = {
    "cache mounts ls": Verb(LS, ls),
    "cache mounts tree": Verb(TREE, tree),
    "cache mounts rm": Verb(RM, remove),
    "cache mounts export": Verb(EXPORT, export),
    "cache mounts import": Verb(IMPORT, import_),
}
