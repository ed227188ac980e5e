"""The entry of `pybuild-runtime`: global options, then the verb's own module and no other."""

import gc
import os
import sys

from runtime.command.context import Context
from runtime.command.options import Options, UsageError, parse
from runtime.errors import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

_GLOBAL: Options = {
    "debug": ("", "flag"),
    "log": ("", "text"),
    "log-format": ("", "text"),
    "root": ("", "text"),
    "criu": ("", "text"),
    "systemd-cgroup": ("", "flag"),
    "rootless": ("", "text"),
    "help": ("h", "flag"),
    "version": ("v", "flag"),
}
# verb -> what it does; each is a module of this package
VERBS = {
    "create": "make a container that waits for its start",
    "delete": "remove a container that has stopped, or any with --force",
    "events": "print the container's use of resources",
    "exec": "run another process in a container",
    "features": "print what this runtime can do",
    "kill": "signal a container's first process",
    "list": "print the containers of a root",
    "pause": "stop all processes of a container",
    "ps": "print the processes of a container",
    "resume": "let a paused container go on",
    "run": "create and start a container",
    "spec": "write a config.json to begin with",
    "start": "start a container that was created",
    "state": "print the state of a container",
    "update": "change the limits of a container",
}
# Their interpreter can be seen from inside a container; that of run, as long as it waits, cannot.
_LAUNCHING = ("create", "exec")


def process() -> "NoReturn":
    """Be the whole process of the installed command."""
    # There is no garbage in so short a life, and looking for it takes a tenth of it.
    gc.disable()
    _open_standard_streams()
    leave(main(sys.argv[1:], sealed=False))


def _open_standard_streams() -> None:
    """Make sure that 0, 1 and 2 are open: what is opened next would become the container's."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the whole process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def main(argv: "list[str]", *, sealed: bool = True) -> int:
    """Do what the command line says and return the exit code.

    sealed: the interpreter is one that nothing in a container can overwrite.
    """
    context = None
    try:
        parsed = parse(argv, _GLOBAL, interspersed=False)
        context = Context(parsed)
        if parsed.flag("version"):
            return _version()
        if not parsed.words or parsed.flag("help") or parsed.words[0] in ("help", "h"):
            return _help()
        verb, *words = parsed.words
        asks_help = words[:1] in (["--help"], ["-h"])
        if verb in _LAUNCHING and not sealed and not asks_help:
            become_sealed(argv)
        if not sealed:
            context.seal = lambda: become_sealed(argv)
        module = _module(verb)
        if asks_help:
            return _verb_help(verb, module)
        interspersed = getattr(module, "INTERSPERSED", True)
        result: int = module.run(
            parse(words, module.OPTIONS, interspersed=interspersed, what=f"{verb}: "), context
        )
    except RuntimeFailure as failure:
        hint = f" (hint: {failure.hint})" if failure.hint else ""
        if context is None:
            sys.stderr.write(f"pybuild-runtime: {failure}{hint}\n")
        else:
            context.report("error", f"{failure}{hint}")
        return getattr(failure, "status", 1)
    except OSError as error:
        subject = f" {error.filename}" if error.filename else ""
        text = f"{error.strerror}{subject}"
        if context is not None:
            context.report("error", text)
        else:
            sys.stderr.write(f"pybuild-runtime: {text}\n")
        return 1
    return result


def sealed_main(argv: "list[str]") -> int:
    """Do what `main` does, in an interpreter that nothing in a container can overwrite."""
    # It was for this interpreter's start, and hooks inherit the environment.
    os.environ.pop("LD_LIBRARY_PATH", None)
    return main(argv)


def become_sealed(argv: "list[str]") -> None:
    """Start over in an interpreter that no container can overwrite."""
    from runtime.command import sealing

    sealing.become_sealed(argv)


def _module(verb: str) -> "ModuleType":
    if verb in ("checkpoint", "restore"):
        raise UsageError(f"{verb}: not supported")
    if verb not in VERBS:
        raise UsageError(f"No help topic for '{verb}'", hint="pybuild-runtime --help lists verbs")
    name = f"runtime.command.{verb}"
    __import__(name)
    return sys.modules[name]


def _version() -> int:
    from runtime.container import OCI_VERSION

    sys.stdout.write(f"pybuild-runtime version 0.1.0\nspec: {OCI_VERSION}\n")
    return 0


def _help() -> int:
    lines = [f"   {verb:10}{what}\n" for verb, what in VERBS.items()]
    options = [
        f"   --{name}{'' if kind == 'flag' else ' VALUE'}\n" for name, (_, kind) in _GLOBAL.items()
    ]
    sys.stdout.write(
        "usage: pybuild-runtime [OPTIONS] VERB [OPTIONS] ID\n\nverbs:\n"
        + "".join(lines)
        + "\noptions:\n"
        + "".join(options)
    )
    return 0


def _verb_help(verb: str, module: "ModuleType") -> int:
    lines = [
        f"   --{name}{f', -{short}' if short else ''}{'' if kind == 'flag' else ' VALUE'}\n"
        for name, (short, kind) in module.OPTIONS.items()
    ]
    sys.stdout.write(f"usage: pybuild-runtime {verb} {module.USAGE}\n\n{VERBS[verb]}\n\n")
    sys.stdout.write("".join(["options:\n", *lines]) if lines else "")
    return 0


def leave(code: int) -> "NoReturn":
    """End the process without the interpreter's own farewell."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
