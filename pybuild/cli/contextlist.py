"""The verb context ls: what is in a build context, and why."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.cli.build import SYNTAX as BUILD
from pybuild.cli.build import request_of
from pybuild.cli.options import Parsed, Syntax, flag, value
from pybuild.cli.table import human_size
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from builder.contextlist import ContextFile, ContextListing

_OF_BUILD = {
    *("file", "build-context", "build-arg", "target", "platform", "secret", "tls-verify", "ca"),
}
LS = Syntax(
    verb="context ls",
    usage="context ls [OPTIONS] [CONTEXT]",
    summary="List the files that a build's context has, of . unless another is named.",
    options=(
        flag("why", "show what is left out too, the rule that decides, and what uses a file"),
        flag("size", "show sizes, the biggest first, and their sum"),
        value("format", "FORM", "table, json or a template: {{.Path}} {{.Rule}} {{.UsedBy}} …"),
        *(option for option in BUILD.options if option.name in _OF_BUILD),
    ),
    at_most=1,
)


def ls(parsed: Parsed, session: Session) -> int:
    """List what a build could copy; what its instructions would not find is said on stderr."""
    if not parsed.arguments:
        parsed.arguments.append(".")
    request = request_of(parsed)
    form = parsed.text("format")
    with session.engine(reading=True) as engine:
        found = engine.context_files(request)
    why, with_sizes = parsed.flag("why"), parsed.flag("size")
    rows = [row for row in found.files if why or form == "json" or row.is_included]
    if with_sizes:
        rows.sort(key=lambda row: -row.size_bytes)
    print(_text(rows, form, why=why, with_sizes=with_sizes), end="")
    if with_sizes and form in (None, "table"):
        print(_sums(found))
    for problem in found.problems:
        print(f"warning: {problem}", file=sys.stderr)
        if getattr(problem, "hint", None):
            print(f"hint: {problem.hint}", file=sys.stderr)
    return 0


VERBS = {"context ls": Verb(LS, ls)}


def _text(rows: Sequence[ContextFile], form: str | None, *, why: bool, with_sizes: bool) -> str:
    if form == "json":
        from pybuild.cli.template import to_json

        return "".join(f"{to_json(as_json(row))}\n" for row in rows)
    columns = {"Size": "SIZE"} if with_sizes else {}
    columns["Path"] = "PATH"
    if why:
        columns |= {"State": "STATE", "Rule": "RULE", "UsedBy": "USED BY"}
    if form is None and len(columns) == 1:
        return "".join(f"{_shown(row)}\n" for row in rows)
    from pybuild.cli.listing import listing

    return listing([_row(row) for row in rows], columns, form)


def as_json(row: ContextFile) -> dict[str, object]:
    """Return a file as JSON values."""
    rule = row.rule
    return {
        "Path": row.path,
        "Kind": row.kind,
        "Size": row.size_bytes,
        "Files": row.files,
        "Included": row.is_included,
        "Rule": rule and {"File": rule.file, "Line": rule.line, "Pattern": rule.pattern},
        "UsedBy": [
            {"Dockerfile": use.dockerfile, "Line": use.line, "Instruction": use.text}
            for use in row.uses
        ],
    }


def _row(row: ContextFile) -> dict[str, str]:
    return {
        "Path": _shown(row),
        "Kind": row.kind,
        "Size": human_size(row.size_bytes),
        "Files": str(row.files),
        "State": "in" if row.is_included else "out",
        "Rule": str(row.rule or ""),
        "UsedBy": ", ".join(map(str, row.uses)),
    }


def _shown(row: ContextFile) -> str:
    return f"{row.path}{os.sep}" if row.kind == "dir" else row.path


def _sums(found: ContextListing) -> str:
    texts = []
    for is_included, words in ((True, "in the context"), (False, "left out")):
        rows = [row for row in found.files if row.is_included == is_included]
        count, size = sum(row.files for row in rows), sum(row.size_bytes for row in rows)
        texts.append(f"{count} {'file' if count == 1 else 'files'} {words}, {human_size(size)}")
    return "; ".join(texts)
