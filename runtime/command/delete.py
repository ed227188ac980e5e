"""delete: remove a container that has stopped, or any with --force."""

from runtime.command.arguments import container_id
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import Container
from runtime.destroying import delete
from runtime.errors import NoSuchContainer

USAGE = "[--force] ID"
OPTIONS: Options = {"force": ("f", "flag"), "regex": ("r", "flag")}


def run(parsed: Parsed, context: Context) -> int:
    """Remove the container; with --force one that is not there is removed already."""
    force = parsed.flag("force")
    container = Container(context.root, container_id(parsed))
    try:
        container.lock()
    except NoSuchContainer:
        if force:
            return 0
        raise
    delete(container, force=force, warn=lambda text: context.report("warning", text))
    return 0
