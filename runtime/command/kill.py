"""kill: signal a container's first process, or all of them."""

from runtime import cgrouptree
from runtime.command.arguments import containers_meant
from runtime.command.context import Context
from runtime.command.options import Options, Parsed, UsageError
from runtime.container import Container
from runtime.errors import WrongState
from runtime.linux import constants as c

USAGE = "[--all] ID [SIGNAL] | --regex PATTERN [SIGNAL]"
OPTIONS: Options = {"all": ("a", "flag"), "regex": ("r", "flag")}


def run(parsed: Parsed, context: Context) -> int:
    """Send the signal."""
    names = containers_meant(parsed, context, more=True)
    if len(parsed.words) > 2:
        raise UsageError(f"one signal is expected, not also {parsed.words[2]!r}")
    number = signal_number(parsed.words[1]) if len(parsed.words) > 1 else c.SIGTERM
    for name in names:
        _signal(Container.load(context.root, name), number, everyone=parsed.flag("all"))
    return 0


def _signal(container: Container, number: int, *, everyone: bool) -> None:
    if everyone:
        # Also of a container that has stopped: without a pid namespace others may live on.
        cgrouptree.kill_all(container.cgroups, number)
        return
    if container.status() == "stopped":
        raise WrongState("container not running")
    container.signal(number)
    if number == c.SIGKILL:
        _let_die(container)


def _let_die(container: Container) -> None:
    """See to it that a killed container is dead: who is frozen, or has no init over him, too."""
    container.let_die()
    if not container.record.get("ownpids"):
        cgrouptree.kill_all(container.cgroups)


def signal_number(text: str) -> int:
    """Return the signal that `text` names: 9, KILL or SIGKILL; 0 only asks. Raises UsageError."""
    if text.isdigit() and int(text) <= 64:
        return int(text)
    import signal

    name = text.upper().removeprefix("SIG")
    if name.startswith(("RTMIN", "RTMAX")):
        base = signal.SIGRTMIN if name.startswith("RTMIN") else signal.SIGRTMAX
        offset = name[5:] or "0"
        if offset.removeprefix("-").removeprefix("+").isdigit():
            return int(base) + int(offset)
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise UsageError(f"unknown signal {text!r}") from None
