"""start: let the command of a created container be executed."""

from runtime.command.arguments import container_id
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import Container
from runtime.creating import start

USAGE = "ID"
OPTIONS: Options = {}


def run(parsed: Parsed, context: Context) -> int:
    """Start the container."""
    container = Container.load(context.root, container_id(parsed), lock=True)
    start(container, lambda text: context.report("warning", text))
    return 0
