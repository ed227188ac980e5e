"""The verbs image tree, image diff and blame."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pybuild.cli.listing import listing
from pybuild.cli.options import Parsed, Syntax, flag, usage_error, value
from pybuild.cli.table import ago, human_size, parse_time, render, short_id, shortened
from pybuild.cli.verb import Session, Verb
from values.classes import asdict

if TYPE_CHECKING:
    from pybuild.engine.imagefiles import FieldChange, FileChange, LayerLine, Written

TREE = Syntax(
    verb="image tree",
    usage="image tree [OPTIONS] IMAGE",
    summary="Show the layers of an image: sizes, the biggest files, and what is hidden.",
    options=(
        value("files", "N", "how many of the biggest files of each layer (default: 3)", "n"),
        value("format", "FORM", "table or json"),
        flag("no-trunc", "show everything in full"),
    ),
    at_least=1,
    at_most=1,
)
DIFF = Syntax(
    verb="image diff",
    usage="image diff [OPTIONS] IMAGE IMAGE",
    summary="Show how two images differ: config and files. IMAGE#N is its first N layers.",
    options=(
        value("format", "FORM", "table or json"),
        flag("times", "files that differ in their time only count too"),
    ),
    at_least=2,
    at_most=2,
)
BLAME = Syntax(
    verb="blame",
    usage="blame [OPTIONS] IMAGE PATH",
    summary="Show which step, line and build last wrote a path of an image.",
    options=(
        flag("all", "show every layer that wrote or deleted it", "a"),
        value("format", "FORM", "table, json or a template: {{.Line}} {{.Step}} …"),
        flag("no-trunc", "show everything in full"),
    ),
    at_least=2,
    at_most=2,
)

_STEP_WIDTH = 60
_BLAME_COLUMNS = {
    "Layer": "LAYER",
    "Action": "ACTION",
    "Place": "PLACE",
    "Step": "STEP",
    "CreatedSince": "CREATED",
    "Build": "BUILD",
}


def tree(parsed: Parsed, session: Session) -> int:
    """Print a line a layer, below it its biggest files, and a sum."""
    count = parsed.text("files") or "3"
    if not count.isdecimal():
        raise usage_error(TREE, f'--files: "{count}" is no number')
    as_json = _is_json(TREE, parsed)
    (name,) = parsed.arguments
    with session.engine(reading=True) as engine:
        lines = engine.image_tree(name, int(count))
    if as_json:
        print(json.dumps([asdict(line) for line in lines], indent=2, ensure_ascii=False))
        return 0
    whole = parsed.flag("no-trunc")
    print(render(("LAYER", "SIZE", "HIDDEN", "FILES", "CREATED BY"), _tree_rows(lines, whole)))
    total = sum(line.size_bytes for line in lines)
    hidden = sum(line.hidden_bytes for line in lines)
    share = f", {human_size(hidden)} of it hidden by later layers" if hidden else ""
    print(f"{human_size(total)} in {len(lines)} layers{share}")
    return 0


def diff(parsed: Parsed, session: Session) -> int:
    """Print the config's fields that differ, then the paths, a line each."""
    as_json = _is_json(DIFF, parsed)
    first, second = parsed.arguments
    with session.engine(reading=True) as engine:
        found = engine.image_diff(first, second, times=parsed.flag("times"))
    if as_json:
        print(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return 0
    for field in found.fields:
        print(_field_line(field))
    for change in found.files:
        print(_file_line(change))
    return 0


def blame(parsed: Parsed, session: Session) -> int:
    """Print the layer that last wrote or deleted a path, with `--all` every one."""
    name, path = parsed.arguments
    with session.engine(reading=True) as engine:
        found = engine.blame(name, path)
    if not parsed.flag("all"):
        del found[1:]
    whole = parsed.flag("no-trunc")
    rows = [_blame_row(written, whole=whole) for written in found]
    print(listing(rows, _BLAME_COLUMNS, parsed.text("format")), end="")
    return 0


VERBS = {
    "image tree": Verb(TREE, tree),
    "image diff": Verb(DIFF, diff),
    "blame": Verb(BLAME, blame),
}


def _is_json(syntax: Syntax, parsed: Parsed) -> bool:
    form = parsed.text("format") or "table"
    if form not in ("table", "json"):
        raise usage_error(syntax, f'--format: "{form}" is neither table nor json')
    return form == "json"


def _tree_rows(lines: list[LayerLine], whole: bool) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for line in lines:
        title = " ".join(line.created_by.split()) or short_id(line.diff_id)
        if line.deletions:
            title += f" (deletes {line.deletions})"
        rows.append(
            (
                str(line.number),
                human_size(line.size_bytes),
                human_size(line.hidden_bytes) if line.hidden_bytes else "",
                str(line.files),
                title if whole else shortened(title, _STEP_WIDTH),
            )
        )
        rows += [("", human_size(f.size_bytes), "", "", f"  {f.path}") for f in line.biggest]
    return rows


def _field_line(change: FieldChange) -> str:
    if change.old is None:
        return f"+ {change.field}: {_value(change.new)}"
    if change.new is None:
        return f"- {change.field}: {_value(change.old)}"
    return f"~ {change.field}: {_value(change.old)} → {_value(change.new)}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _file_line(change: FileChange) -> str:
    what = list(change.what)
    if change.size_bytes:
        sign = "-" if change.size_bytes < 0 else "+"
        what.append(f"{sign}{human_size(abs(change.size_bytes))}")
    return f"{change.letter} {change.path}" + (f" ({', '.join(what)})" if what else "")


def _blame_row(written: Written, *, whole: bool) -> dict[str, str]:
    created = parse_time(written.created)
    step = " ".join((written.step or written.created_by).split())
    place = f"{written.dockerfile}:{written.line}" if written.line else written.dockerfile
    return {
        "Path": written.path,
        "Kind": written.kind,
        "Layer": str(written.layer),
        "DiffID": written.diff_id,
        "Action": "deleted" if written.deleted else "wrote",
        "Place": place or "not built here",
        "Dockerfile": written.dockerfile,
        "Line": str(written.line or ""),
        "Stage": written.stage,
        "Step": step if whole else shortened(step, _STEP_WIDTH),
        "CreatedSince": ago(created),
        "CreatedAt": written.created,
        "Build": written.build_id,
    }
