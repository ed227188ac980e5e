"""create: make a container that waits for its start."""

import os

from runtime.command.arguments import container_id, passed_descriptors
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.creating import Wish, create
from runtime.linux.process import close_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.container import Container
    from runtime.launch.creation import Creation

USAGE = "[OPTIONS] ID"
OPTIONS: Options = {
    "bundle": ("b", "text"),
    "console-socket": ("", "text"),
    "pidfd-socket": ("", "text"),
    "pid-file": ("", "text"),
    "no-pivot": ("", "flag"),
    "no-new-keyring": ("", "flag"),
    "preserve-fds": ("", "number"),
}


def run(parsed: Parsed, context: Context) -> int:
    """Create the container and leave it waiting."""
    wish = wish_of(parsed, context)
    container, creation = create(wish, lambda text: context.report("warning", text))
    context.debug(made(container, creation))
    creation.let_go()
    return 0


def made(container: "Container", creation: "Creation") -> str:
    """Return what --debug says of a container that waits for its start."""
    places = ", ".join(sorted(set(container.cgroups.values()))) or "none"
    return f"container {container.id}: init {creation.pid}, cgroups {places}"


def wish_of(parsed: Parsed, context: Context) -> Wish:
    """Return what the options of create and run ask for."""
    name = container_id(parsed)
    bundle = os.path.abspath(parsed.text("bundle") or ".")
    wish = Wish(context.root, name, bundle, context.cache)
    wish.seal = context.seal
    if parsed.text("console-socket"):
        wish.console_socket = os.path.abspath(parsed.text("console-socket"))
    wish.pidfd_socket = parsed.text("pidfd-socket")
    wish.notify = bool(os.environ.get("NOTIFY_SOCKET"))
    if parsed.text("pid-file"):
        wish.pid_file = os.path.abspath(parsed.text("pid-file"))
    wish.keep_fds, wish.listen_fds = passed_descriptors(parsed)
    # What our caller left open for its children is nothing for a container that outlives us.
    close_range(3 + wish.keep_fds)
    wish.no_pivot = parsed.flag("no-pivot")
    wish.no_new_keyring = parsed.flag("no-new-keyring")
    wish.systemd_cgroup = context.systemd_cgroup
    return wish
