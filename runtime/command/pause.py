"""pause: stop all processes of a container."""

from runtime.command.arguments import container_id
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import Container
from runtime.errors import WrongState
from runtime.freezer import freeze

USAGE = "ID"
OPTIONS: Options = {}


def run(parsed: Parsed, context: Context) -> int:
    """Pause the container."""
    container = Container.load(context.root, container_id(parsed), lock=True)
    status = container.status()
    if status not in ("running", "created"):
        raise WrongState(f"container not running or created: {status}")
    freeze(container.cgroups)
    return 0
