"""start: let the command of a created container be executed."""

import os

from runtime.command.arguments import container_id
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import Container
from runtime.creating import start
from runtime.linux.process import pidfd_open

USAGE = "ID"
OPTIONS: Options = {}


def run(parsed: Parsed, context: Context) -> int:
    """Start the container."""
    container = Container.load(context.root, container_id(parsed), lock=True)
    listener, pidfd = None, -1
    if os.environ.get("NOTIFY_SOCKET"):
        from runtime import notify

        listener = notify.listener_of(container.folder)
        pidfd = pidfd_open(container.pid)
    start(container, lambda text: context.report("warning", text))
    container.unlock()
    if listener is not None:
        listener.wait(container.pid, pidfd)
    return 0
