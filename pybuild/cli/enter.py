"""The verb enter: a shell in the state of a step."""

from __future__ import annotations

import sys

from pybuild.cli.buildvalues import parse_secret, parse_ssh
from pybuild.cli.options import Parsed, Syntax, flag, many, usage_error
from pybuild.cli.verb import Session, Verb

SYNTAX = Syntax(
    verb="enter",
    usage="enter [OPTIONS] [BUILD[:STEP]] [-- COMMAND [ARGUMENTS]]",
    summary="Open a shell in the state that a step left, of the failed one unless it is named.",
    at_most=None,
    options=(
        flag("fresh", "begin as the step left it, without what was changed inside before"),
        flag("adopt", "print what was changed inside, and enter nothing"),
        many("secret", "id=…", "for the step's --mount=type=secret: id=ID[,src=FILE|,env=NAME]"),
        many("ssh", "ID[=PATH]", "for the step's --mount=type=ssh: an agent's socket, or keys"),
    ),
)


def enter(parsed: Parsed, session: Session) -> int:
    """Enter a step; the exit code is the shell's."""
    name, command = names_of(parsed)
    if parsed.flag("adopt"):
        if command or parsed.flag("fresh"):
            raise usage_error(SYNTAX, "--adopt enters nothing: it takes no command and no --fresh")
        with session.engine(reading=True) as engine:
            print("".join(f"{line}\n" for line in engine.changed_inside(name)), end="")
        return 0
    from builder.entering import EntryRequest

    request = EntryRequest(
        command=command,
        fresh=parsed.flag("fresh"),
        tty=sys.stdin.isatty() and sys.stdout.isatty(),
        secrets=tuple(map(parse_secret, parsed.many("secret"))),
        ssh=tuple(map(parse_ssh, parsed.many("ssh"))),
    )
    with session.engine(reading=True) as engine:
        return engine.enter(
            name, request, lambda text: print(f"note: {text}", file=sys.stderr, flush=True)
        )


def names_of(parsed: Parsed) -> tuple[str, tuple[str, ...]]:
    """Return the step's name, "" for none, and the command behind `--`. Raises UsageError."""
    words = parsed.arguments
    count = len(words) if parsed.dashes is None else parsed.dashes
    if count > 1:
        hint = f"a command stands behind --: pybuild enter {words[0]} -- {' '.join(words[1:count])}"
        raise usage_error(SYNTAX, f"takes one step, got {count} words", hint)
    return "".join(words[:count]), tuple(words[count:])


VERBS = {"enter": Verb(SYNTAX, enter, in_container=True)}
