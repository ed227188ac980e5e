"""run: create and start a container, and by default stay with it to its end."""

from runtime.command import create as create_verb
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import Container
from runtime.creating import after_start, create, raised
from runtime.destroying import destroy
from runtime.errors import NoSuchContainer
from runtime.launch.creation import Creation
from runtime.launch.process import Failed

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
    detach = parsed.flag("detach")
    if detach or wish.console_socket:
        container, creation = create(wish, warn)
        _started(container, creation, warn)
        return 0 if detach else _stay(container, creation, parsed, warn)
    from runtime.command.foreground import with_terminal

    return with_terminal(
        wish,
        lambda: create(wish, warn),
        lambda container, creation: _started(container, creation, warn),
        lambda container, creation: _end(container, creation, parsed, warn),
    )


def _started(container: Container, creation: Creation, warn: "Warn") -> None:
    try:
        creation.started()
    except Failed as failure:
        destroy(container, warn)
        raise raised(failure) from failure
    after_start(container, warn)
    container.unlock()


def _stay(container: Container, creation: Creation, parsed: Parsed, warn: "Warn") -> int:
    from runtime.command.foreground import wait_for

    wait_for(container, creation.pidfd, -1)
    return _end(container, creation, parsed, warn)


def _end(container: Container, creation: Creation, parsed: Parsed, warn: "Warn") -> int:
    import os

    code = os.waitstatus_to_exitcode(os.waitpid(creation.pid, 0)[1])
    if not parsed.flag("keep"):
        try:
            container.lock()
        except NoSuchContainer:
            pass  # somebody else deleted it
        else:
            destroy(container, warn)
    return code if code >= 0 else 128 - code


TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.creating import Warn
