"""The verbs builds ls, builds logs, builds rm and builds report."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pybuild.cli.listing import listing
from pybuild.cli.options import Parsed, Syntax, flag, many, usage_error, value
from pybuild.cli.table import ago, human_size, local_time, short_id, shortened
from pybuild.cli.verb import Session, Verb
from pybuild.errors import PybuildError
from pybuild.sizes import human_seconds

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.engine.journal import BuildLine, JournalBuild, JournalStep

LS = Syntax(
    verb="builds ls",
    usage="builds ls [OPTIONS]",
    summary="List the builds of the journal, newest first.",
    options=(
        many("filter", "KEY=VALUE", "status, ref (id or tag), since or until", "f"),
        value("format", "FORM", "table, json or a template: {{.ID}} {{.Name}} {{.Status}} …"),
        value("limit", "N", "no more than so many", "n"),
        flag("no-trunc", "show names in full"),
        flag("quiet", "show IDs only", "q"),
    ),
    later="builder local",
)
LOGS = Syntax(
    verb="builds logs",
    usage="builds logs [BUILD [STEP]]",
    summary="Show the whole log of a build's steps, or the bytes of one step's.",
    at_most=2,
    later="builder progress",
)
RM = Syntax(
    verb="builds rm",
    usage="builds rm [OPTIONS] [BUILD...]",
    summary="Remove builds and their logs from the journal.",
    options=(
        flag("all", "all builds that do not run", "a"),
        many("filter", "until=WHEN", "those begun before: until=48h, until=2026-01-31", "f"),
    ),
    at_most=None,
    later="builder",
)
REPORT = Syntax(
    verb="builds report",
    usage="builds report [BUILD] -o FILE",
    summary="Write a page about a build, complete in one HTML file.",
    options=(value("output", "FILE", "where to; - is standard output", "o"),),
    at_most=1,
)

_NAME_WIDTH = 48
_COLUMNS = {
    "ID": "BUILD",
    "Status": "STATUS",
    "Name": "NAME",
    "Steps": "STEPS",
    "Duration": "DURATION",
    "CreatedSince": "CREATED",
}


def ls(parsed: Parsed, session: Session) -> int:
    """List builds."""
    limit = _limit(parsed.text("limit"))
    form = parsed.text("format")
    with session.engine(reading=True) as engine:
        found = engine.builds(parsed.many("filter"), limit)
    if parsed.flag("quiet") and form is None:
        print("".join(f"{line.build.build_id}\n" for line in found), end="")
        return 0
    whole = parsed.flag("no-trunc") or form is not None
    print(listing([_row(line, whole=whole) for line in found], _COLUMNS, form), end="")
    return 0


def logs(parsed: Parsed, session: Session) -> int:
    """Print each step's log below its name, or nothing but the bytes of one step's log."""
    with session.engine(reading=True) as engine:
        build = engine.journal(*parsed.arguments[:1])
        if len(parsed.arguments) == 2:
            from pybuild.engine.journal import steps_of

            _copy(engine, build, steps_of(build, parsed.arguments[1]))
            return 0
        for step in build.steps:
            name = " ".join(step.name.split())
            print(f"#{step.row.number} {name}: {step.row.status}", flush=True)
            if step.log_bytes is not None and step.log_bytes < 0:
                print("(its log is gone)", flush=True)
            elif not _copy(engine, build, step).endswith(b"\n"):
                print(flush=True)
    return 0


def rm(parsed: Parsed, session: Session) -> int:
    """Remove builds and print their ids."""
    everything, filters = parsed.flag("all"), parsed.many("filter")
    if bool(parsed.arguments) == bool(everything or filters):
        raise usage_error(RM, "name builds, or give --all or --filter until=…")
    with session.engine(reading=True) as engine:
        ids, freed = engine.remove_builds(parsed.arguments, filters, everything=everything)
    print("".join(f"{name}\n" for name in ids), end="")
    if not parsed.arguments:
        print(f"Total reclaimed space: {human_size(freed)}")
    return 0


def report(parsed: Parsed, session: Session) -> int:
    """Write the report: all of it, or the file is as it was."""
    target = parsed.text("output")
    if not target:
        raise usage_error(REPORT, "-o says where the page goes", "as in -o report.html")
    name = parsed.arguments[0] if parsed.arguments else "last"
    with session.engine(reading=True) as engine:
        if target == "-":
            sys.stdout.flush()
            engine.write_report(name, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return 0
        _write_file(engine, name, target)
    return 0


VERBS = {
    "builds ls": Verb(LS, ls),
    "builds logs": Verb(LOGS, logs),
    "builds rm": Verb(RM, rm),
    "builds report": Verb(REPORT, report),
}


def _write_file(engine: Engine, name: str, target: str) -> None:
    """Write the page beside `target`, then put it in its place. Raises PybuildError."""
    beside = ""
    try:
        fd, beside = tempfile.mkstemp(dir=os.path.dirname(target) or ".", prefix=".report-")
        with open(fd, "wb") as out:
            engine.write_report(name, out)
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(fd, 0o666 & ~mask)
        os.replace(beside, target)
        beside = ""
    except OSError as error:
        raise PybuildError(f"write {target}: {(error.strerror or str(error)).lower()}") from error
    finally:
        if beside:
            os.unlink(beside)


def _copy(engine: Engine, build: JournalBuild, step: JournalStep) -> bytes:
    """Copy a step's log to stdout, byte for byte, and return its last byte, a line end if none."""
    path = engine.log_file(build, step)
    if path is None:
        return b"\n"
    with open(path, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        if not file.tell():
            return b"\n"
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not int(text):
        raise usage_error(LS, f'--limit: "{text}" is no number above 0')
    return int(text)


def _row(line: BuildLine, *, whole: bool) -> dict[str, str]:
    began = datetime.fromtimestamp(line.build.started_ns / 1e9, UTC)
    return {
        "ID": line.build.build_id,
        "Status": line.status,
        "Name": line.name if whole else shortened(line.name, _NAME_WIDTH),
        "Steps": f"{line.steps} ({line.cached} cached)" if line.cached else str(line.steps),
        "Duration": human_seconds(line.seconds) if line.seconds else "",
        "CreatedSince": ago(began),
        "CreatedAt": local_time(began),
        "Tags": ",".join(line.tags),
        "Dockerfile": line.build.dockerfile,
        "Context": line.build.context,
        "ImageID": line.build.image_id,
        "Image": short_id(line.build.image_id),
        "Cached": str(line.cached),
        "Total": str(line.steps),
        "Error": " ".join(line.build.error.split()),
    }
