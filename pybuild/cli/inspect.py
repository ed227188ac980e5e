"""The verbs inspect and history."""

from __future__ import annotations

import json
import sys

from pybuild.cli.listing import listing
from pybuild.cli.options import Parsed, Syntax, flag, usage_error, value
from pybuild.cli.report import is_expected, report
from pybuild.cli.table import ago, human_size, parse_time, short_id, shortened
from pybuild.cli.verb import Session, Verb

INSPECT = Syntax(
    verb="inspect",
    usage="inspect [OPTIONS] NAME...",
    summary="Show everything about images and containers as JSON.",
    options=(
        value("format", "FORM", "json or a template: {{.Id}} {{json .Config}} …", "f"),
        value("type", "TYPE", "image or container"),
    ),
    at_least=1,
    at_most=None,
    later="size/s platform",
)
HISTORY = Syntax(
    verb="history",
    usage="history [OPTIONS] IMAGE",
    summary="Show how an image came about.",
    options=(
        value("format", "FORM", "table, json or a template: {{.ID}} {{.CreatedBy}} …"),
        flag("human", "sizes and times for people (default)", "H"),
        flag("no-trunc", "show everything in full"),
        flag("quiet", "show image IDs only", "q"),
    ),
    at_least=1,
    at_most=1,
    later="platform",
)

_COLUMNS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_MISSING = "<missing>"
_CREATED_BY_WIDTH = 45


def inspect(parsed: Parsed, session: Session) -> int:
    """Print a JSON array with an object for everything named, or a line of the template each."""
    kind = parsed.text("type")
    if kind not in (None, "image", "container"):
        raise usage_error(INSPECT, f'--type: "{kind}" is neither image nor container')
    found: list[dict[str, object]] = []
    errors: list[Exception] = []
    with session.engine() as engine:
        for name in parsed.arguments:
            try:
                found.append(engine.inspect(name, kind))
            except Exception as error:
                if not is_expected(error):
                    raise
                errors.append(error)
    print(_inspected(found, parsed.text("format")), end="")
    sys.stdout.flush()
    for failure in errors:
        report(failure, debug=session.debug)
    return 1 if errors else 0


def history(parsed: Parsed, session: Session) -> int:
    """Print the lines of an image's history, newest first."""
    whole = parsed.flag("no-trunc")
    people = parsed.text("human") != "false"
    with session.engine() as engine:
        lines = engine.history(parsed.arguments[0])
    rows = []
    for line in lines:
        created = parse_time(line.created)
        image_id = line.image_id or _MISSING
        rows.append(
            {
                "ID": image_id if whole or not line.image_id else short_id(image_id),
                "CreatedSince": ago(created) if people else line.created or "N/A",
                "CreatedAt": line.created or "N/A",
                "CreatedBy": _created_by(line.created_by, whole=whole),
                "Size": human_size(line.size_bytes) if people else str(line.size_bytes),
                "Comment": line.comment,
            }
        )
    if parsed.flag("quiet"):
        print("".join(f"{row['ID']}\n" for row in rows), end="")
    else:
        print(listing(rows, _COLUMNS, parsed.text("format")), end="")
    return 0


VERBS = {"inspect": Verb(INSPECT, inspect), "history": Verb(HISTORY, history)}


def _inspected(found: list[dict[str, object]], form: str | None) -> str:
    if form is None:
        return json.dumps(found, indent=4, ensure_ascii=False) + "\n"
    from pybuild.cli.template import Template, to_json

    if form == "json":
        return to_json(found) + "\n"
    template = Template(form)
    return "".join(template.render(value) + "\n" for value in found)


def _created_by(text: str, *, whole: bool) -> str:
    line = " ".join(text.split())
    return line if whole else shortened(line, _CREATED_BY_WIDTH)
