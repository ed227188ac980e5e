"""The lock verb: write down what the sources of a Dockerfile are, and show what has moved."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pybuild.cli.build import SYNTAX as BUILD
from pybuild.cli.build import progress_kind, request_of
from pybuild.cli.interruption import interrupted
from pybuild.cli.options import Parsed, Syntax, flag, usage_error, value
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from builder.locking import Locking

_KEPT = {
    "file",
    "build-context",
    "build-arg",
    "platform",
    "secret",
    "ssh",
    "sbom",
    "attest",
    "pull",
    "lock-file",
    "progress",
    "tls-verify",
    "ca",
}
SYNTAX = Syntax(
    verb="lock",
    usage="lock [OPTIONS] [CONTEXT [NAME…]]",
    summary="Write down what images, addresses and branches are now, for build --locked.",
    options=(
        flag("update", "ask again: for all entries, or for those of the NAMEs"),
        flag("check", "write nothing; exit with 1 if the lock is not as it would be written"),
        value("target", "STAGE", "lock what this stage needs (default: what any stage needs)"),
        *(option for option in BUILD.options if option.name in _KEPT),
        flag("quiet", "say nothing but errors", "q"),
    ),
    at_least=0,
    at_most=None,
)


def lock(parsed: Parsed, session: Session) -> int:
    """Write the lock; with --check 1 where it would be another one."""
    context, names = _split(parsed)
    parsed.arguments = [context]
    request = request_of(parsed)
    kind = progress_kind(parsed)
    with session.engine() as engine:
        from builder.locking import Update
        from pybuild.cli.progress import display_of
        from runtime.cancel import Cancel

        cancel = Cancel()
        display = display_of(kind)
        update = Update(everything=parsed.flag("update") and not names, names=names)
        with interrupted(cancel, display) as stopped_by:
            try:
                locking = engine.lock(request, update, display, cancel)
            except Exception as error:
                if stopped_by and type(error).__name__ == "Canceled":
                    print("canceled", file=sys.stderr)
                    return 128 + stopped_by[0]
                raise
            finally:
                display.finish()
    return _finish(locking, parsed)


def _split(parsed: Parsed) -> tuple[str, tuple[str, ...]]:
    """Return the context, the working directory without one, and the names to be updated.

    With --update the first argument may be a name already: one that is no directory and no address.
    """
    words = tuple(parsed.arguments)
    first = words[0] if words else "."
    is_context = os.path.isdir(first) or first == "-" or "://" in first or ".git" in first
    if parsed.flag("update"):
        return (first, words[1:]) if is_context else (".", words)
    if len(words) > 1:
        raise usage_error(SYNTAX, "names are for --update", f"usage: pybuild {SYNTAX.usage}")
    return first, ()


def _finish(locking: Locking, parsed: Parsed) -> int:
    from builder.lockfile import Lock, changes

    quiet = parsed.flag("quiet")
    lines = changes(locking.before or Lock({}), locking.after)
    if not quiet:
        print("\n".join(lines), end="\n" if lines else "")
    count = len(locking.after.entries)
    if locking.is_current:
        said = f"{locking.path}: {count} sources, as they were"
    elif parsed.flag("check"):
        there = "is not as it would be written" if locking.before is not None else "no such file"
        print(f"{locking.path}: {there}", file=sys.stderr)
        return 1
    else:
        locking.write()
        said = f"{locking.path}: {count} sources locked"
    if not quiet:
        print(said)
    return 0


VERBS = {"lock": Verb(SYNTAX, lock)}
