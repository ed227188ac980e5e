"""resume: let a paused container go on."""

from runtime.command.arguments import container_id
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import Container
from runtime.errors import WrongState
from runtime.freezer import thaw

USAGE = "ID"
OPTIONS: Options = {}


def run(parsed: Parsed, context: Context) -> int:
    """Resume the container."""
    container = Container.load(context.root, container_id(parsed), lock=True)
    if container.status() != "paused":
        raise WrongState("container not paused")
    thaw(container.cgroups)
    return 0
