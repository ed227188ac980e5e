"""delete: remove a container that has stopped, or any with --force."""

from runtime.command.arguments import containers_meant
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import Container
from runtime.destroying import delete
from runtime.errors import NoSuchContainer

USAGE = "[--force] ID | --regex PATTERN"
OPTIONS: Options = {"force": ("f", "flag"), "regex": ("r", "flag")}


def run(parsed: Parsed, context: Context) -> int:
    """Remove the container; with --force one that is not there is removed already."""
    for name in containers_meant(parsed, context):
        _delete(name, context, force=parsed.flag("force"))
    return 0


def _delete(name: str, context: Context, *, force: bool) -> None:
    container = Container(context.root, name)
    try:
        container.lock()
    except NoSuchContainer:
        if force:
            return
        raise
    delete(container, force=force, warn=lambda text: context.report("warning", text))
