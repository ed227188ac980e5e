"""events: print the container's use of resources, and when it ran out of memory."""

import sys
import time

from runtime import jsontext
from runtime.command.arguments import container_id
from runtime.command.context import Context
from runtime.command.options import Options, Parsed, UsageError
from runtime.container import Container
from runtime.errors import WrongState
from runtime.stats import oom_kills, stats

USAGE = "[OPTIONS] ID"
OPTIONS: Options = {"interval": ("", "text"), "stats": ("", "flag")}
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LOOK_S = 0.1  # how often a want of memory is looked for


def run(parsed: Parsed, context: Context) -> int:
    """Print one line of JSON with --stats, else one every interval until the container ends."""
    interval_s = _seconds(parsed.text("interval", "5s"))
    container = Container.load(context.root, container_id(parsed))
    if container.status() == "stopped":
        raise WrongState(f"container with id {container.id} is not running")
    if parsed.flag("stats"):
        _say("stats", container, stats(container.cgroups))
        return 0
    kills, due = oom_kills(container.cgroups), time.monotonic() + interval_s
    while container.is_alive():
        time.sleep(_LOOK_S)
        now = oom_kills(container.cgroups)
        if now > kills:
            kills = now
            _say("oom", container, None)
        if time.monotonic() >= due and container.is_alive():
            due += interval_s
            _say("stats", container, stats(container.cgroups))
    return 0


def _say(kind: str, container: Container, data: object) -> None:
    event = {"type": kind, "id": container.id, **({"data": data} if data else {})}
    sys.stdout.write(jsontext.dumps(event).decode() + "\n")
    sys.stdout.flush()


def _seconds(text: str) -> float:
    for unit in ("ms", "s", "m", "h"):
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            seconds = float(number) * _UNITS_S[unit]
            if seconds > 0:
                return seconds
    raise UsageError(f"--interval: {text!r} is no duration, as 5s")
