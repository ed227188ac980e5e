"""The verbs ps, rm and container prune: containers that `run` without --rm has left."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pybuild.cli.confirm import confirmed
from pybuild.cli.listing import listing
from pybuild.cli.options import Parsed, Syntax, flag, many, value
from pybuild.cli.report import is_expected, report
from pybuild.cli.table import ago, human_duration, human_size, parse_time, short_id, shortened
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from pybuild.engine.records import ContainerRecord

PS = Syntax(
    verb="ps",
    usage="ps [OPTIONS]",
    summary="List containers that run; with -a all of them.",
    options=(
        flag("all", "ended ones too", "a"),
        value("format", "FORM", "table, json or a template: {{.ID}} {{.Names}} …"),
        flag("no-trunc", "show everything in full"),
        flag("quiet", "show container IDs only", "q"),
    ),
    later="filter/f last/n latest/l size/s",
)
RM = Syntax(
    verb="rm",
    usage="rm [OPTIONS] CONTAINER...",
    summary="Remove containers.",
    options=(
        flag("force", "kill what runs, do not mind what is not there", "f"),
        flag("volumes", "as docker's; volumes are part of the container here", "v"),
    ),
    at_least=1,
    at_most=None,
    later="link/l",
)
PRUNE = Syntax(
    verb="container prune",
    usage="container prune [OPTIONS]",
    summary="Remove the containers that do not run.",
    options=(
        flag("force", "do not ask", "f"),
        many("filter", "KEY=VALUE", "until=24h, label=K[=V] or label!=K[=V]"),
    ),
)

_COLUMNS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
}
_COMMAND_WIDTH = 20


def ps(parsed: Parsed, session: Session) -> int:
    """List containers."""
    whole = parsed.flag("no-trunc")
    with session.engine(reading=True) as engine:
        containers = engine.containers(everything=parsed.flag("all"))
    rows = [_row(record, whole=whole) for record in containers]
    if parsed.flag("quiet"):
        print("".join(f"{row['ID']}\n" for row in rows), end="")
    else:
        print(listing(rows, _COLUMNS, parsed.text("format")), end="")
    return 0


def rm(parsed: Parsed, session: Session) -> int:
    """Remove containers; go on after a failure."""
    failed = False
    with session.engine(reading=True) as engine:
        for name in parsed.arguments:
            try:
                engine.remove_container(name, force=parsed.flag("force"))
            except Exception as error:
                if not is_expected(error):
                    raise
                report(error, debug=session.debug)
                failed = True
            else:
                print(name)
    return 1 if failed else 0


def prune(parsed: Parsed, session: Session) -> int:
    """Remove the containers that do not run, after a question."""
    if not parsed.flag("force") and not confirmed("This will remove all stopped containers."):
        return 0
    with session.engine(reading=True) as engine:
        pruned = engine.prune_containers(filters=parsed.many("filter"))
    if pruned.lines:
        print("Deleted Containers:", *pruned.lines, "", sep="\n")
    print(f"Total reclaimed space: {human_size(pruned.freed_bytes)}")
    return 0


VERBS = {"ps": Verb(PS, ps), "rm": Verb(RM, rm), "container prune": Verb(PRUNE, prune)}


def _row(record: ContainerRecord, *, whole: bool) -> dict[str, str]:
    command = " ".join(record.args)
    return {
        "ID": record.id if whole else short_id(record.id),
        "Image": record.image_name,
        "Command": f'"{command if whole else shortened(command, _COMMAND_WIDTH)}"',
        "RunningFor": ago(parse_time(record.created)),
        "CreatedAt": record.created,
        "State": record.state,
        "Status": _status(record),
        "Ports": ", ".join(map(_port, record.ports)) if record.state == "running" else "",
        "Names": record.name,
        "Labels": ",".join(f"{key}={label}" for key, label in record.labels),
    }


def _port(port: tuple[str, int, int, str]) -> str:
    """Return a published port in docker's words."""
    address, host, inside, protocol = port
    where = f"[{address}]" if ":" in address else address or "0.0.0.0"
    return f"{where}:{host}->{inside}/{protocol}"


def _status(record: ContainerRecord) -> str:
    if record.state == "running":
        since = parse_time(record.started)
        passed = (datetime.now(UTC) - since).total_seconds() if since else 0
        return f"Up {human_duration(passed)}"
    if record.state == "exited":
        return f"Exited ({record.exit_code}) {ago(parse_time(record.finished))}"
    return record.state.capitalize()
