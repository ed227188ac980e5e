"""run: create and start a container, and by default stay with it to its end."""

import os

from runtime.command import create as create_verb
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import Container
from runtime.creating import after_start, create, raised, set_ready
from runtime.destroying import destroy
from runtime.errors import NoSuchContainer
from runtime.launch.creation import Creation
from runtime.launch.process import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.creating import Warn

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
        _start(container, creation, warn)
        return 0
    from runtime.command.foreground import Stay

    stay = Stay(wish)
    container, creation = create(wish, warn)
    stay.attach(creation.pidfd, tty=creation.has_terminal)
    _start(container, creation, warn)
    stay.to_the_end()
    return _end(container, creation, keep=parsed.flag("keep"), warn=warn)


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
