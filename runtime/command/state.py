"""state: print the state of a container, as the runtime-spec has it and as runc adds to it."""

import sys

from runtime.command.arguments import container_id
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import Container

USAGE = "ID"
OPTIONS: Options = {}


def run(parsed: Parsed, context: Context) -> int:
    """Print the state."""
    import json

    container = Container.load(context.root, container_id(parsed))
    sys.stdout.write(json.dumps(container.description(""), indent=2) + "\n")
    return 0
