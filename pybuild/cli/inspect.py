"""The verbs inspect and history."""

from __future__ import annotations

import json
import sys
from datetime import datetime

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
        value("platform", "OS/ARCH", "which image of an index"),
        value("type", "TYPE", "image or container"),
    ),
    at_least=1,
    at_most=None,
    later="size/s",
)
HISTORY = Syntax(
    verb="history",
    usage="history [OPTIONS] IMAGE",
    summary="Show how an image came about.",
    options=(
        value("format", "FORM", "table, json or a template: {{.ID}} {{.CreatedBy}} …"),
        flag("human", "sizes and times for people (default)", "H"),
        flag("no-trunc", "show everything in full"),
        value("platform", "OS/ARCH", "which image of an index"),
        flag("quiet", "show image IDs only", "q"),
    ),
    at_least=1,
    at_most=1,
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
    with session.engine(reading=True) as engine:
        for name in parsed.arguments:
            try:
                found.append(engine.inspect(name, kind, parsed.text("platform")))
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
    with session.engine(reading=True) as engine:
        lines = engine.history(parsed.arguments[0], parsed.text("platform"))
    rows = []
    for line in lines:
        created = parse_time(line.created)
        image_id = line.image_id or _MISSING
        rows.append(
            {
                "ID": image_id if whole or not line.image_id else short_id(image_id),
                "CreatedSince": ago(created) if people else _whole_second(created),
                "CreatedAt": _whole_second(created),
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
    return "".join(template.render(_typed(value)) + "\n" for value in found)


def _typed(found: dict[str, object]) -> object:
    """Return what a template sees: what an image's JSON leaves out is empty in docker's types."""
    from pybuild.cli.templatefunctions import NIL_LIST, NIL_MAP, Struct

    config = found.get("Config")
    if "RootFS" not in found or not isinstance(config, dict):
        return found
    texts = ("User", "WorkingDir", "StopSignal", "Hostname", "Domainname", "Image")
    lists = ("Env", "Cmd", "Entrypoint", "OnBuild", "Shell")
    zeros = {
        **dict.fromkeys(texts, ""),
        **dict.fromkeys(lists, NIL_LIST),
        **dict.fromkeys(("ExposedPorts", "Volumes", "Labels"), NIL_MAP),
        "ArgsEscaped": False,
        "Healthcheck": None,
    }
    if "Labels" in config:
        config = config | {"Labels": Struct(config["Labels"], free=True)}
    tops = {"ID": found["Id"], "Parent": "", "DockerVersion": "", "Variant": "", "OsVersion": ""}
    return Struct(found | {"Config": Struct(config, zeros)}, {**tops, "VirtualSize": found["Size"]})


def _whole_second(when: datetime | None) -> str:
    """Return a time in this machine's zone, as docker's history shows it."""
    return when.astimezone().isoformat(timespec="seconds") if when else "N/A"


def _created_by(text: str, *, whole: bool) -> str:
    line = " ".join(text.split())
    return line if whole else shortened(line, _CREATED_BY_WIDTH)
