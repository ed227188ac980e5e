"""run: create and start a container, and by default stay with it to its end."""

import os

from runtime.command import create as create_verb
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import Container
from runtime.creating import Wish, after_start, create, raised, set_ready
from runtime.destroying import destroy
from runtime.errors import NoSuchContainer
from runtime.launch.creation import Creation
from runtime.launch.process import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.creating import Warn
    from runtime.notify import Listener

USAGE = "[OPTIONS] ID"
OPTIONS: Options = {
    **create_verb.OPTIONS,
    "detach": ("d", "flag"),
    "keep": ("", "flag"),
    "no-subreaper": ("", "flag"),
}


def run(parsed: Parsed, context: Context) -> int:
    """Run the container; the exit code is its command's."""

    def warn(text: str) -> None:
        context.report("warning", text)

    wish = create_verb.wish_of(parsed, context)
    wish.waits = False
    if parsed.flag("detach"):
        container, creation = create(wish, warn)
        context.debug(create_verb.made(container, creation))
        listener = _listener(wish, container)
        _start(container, creation, warn)
        if listener is not None:
            listener.wait(creation.pid, creation.pidfd)
        return 0
    from runtime.command.foreground import Stay

    stay = Stay(wish)
    container, creation = create(wish, warn)
    context.debug(create_verb.made(container, creation))
    stay.listener = _listener(wish, container)
    stay.attach(creation.pidfd, tty=creation.has_terminal, pid=creation.pid)
    _start(container, creation, warn)
    stay.to_the_end()
    return _end(container, creation, keep=parsed.flag("keep"), warn=warn)


def _listener(wish: Wish, container: Container) -> "Listener | None":
    if not wish.notify:
        return None
    from runtime.notify import listener_of

    return listener_of(container.folder)


def _start(container: Container, creation: Creation, warn: "Warn") -> None:
    creation.let_go()
    try:
        creation.started()
    except Failed as failure:
        container.record["ready"] = True  # what follows a creation follows this one too
        destroy(container, warn)
        raise raised(failure) from failure
    set_ready(container)
    after_start(container, warn)
    container.unlock()


def _end(container: Container, creation: Creation, *, keep: bool, warn: "Warn") -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(creation.pid, 0)[1])
    if not keep:
        try:
            container.lock()
        except NoSuchContainer:
            pass  # somebody else deleted it
        else:
            destroy(container, warn)
    return code if code >= 0 else 128 - code
