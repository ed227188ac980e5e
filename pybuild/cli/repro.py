"""The repro verb: is a build reproducible, and if not, by which file of which step."""

from __future__ import annotations

import sys

from pybuild.cli.build import SYNTAX as BUILD
from pybuild.cli.build import progress_kind, request_of
from pybuild.cli.interruption import interrupted
from pybuild.cli.options import Parsed, Syntax
from pybuild.cli.verb import Session, Verb

_LEFT_OUT = {
    "budget",
    "check",
    "call",
    "explain",
    "push",
    "load",
    "iidfile",
    "metadata-file",
    "output",
    "tag",
}
SYNTAX = Syntax(
    verb="repro",
    usage="repro [OPTIONS] CONTEXT",
    summary="Build twice under changed conditions and name the first file that differs.",
    options=tuple(option for option in BUILD.options if option.name not in _LEFT_OUT),
    at_least=1,
    at_most=1,
    later=BUILD.later,
    of_build=frozenset(_LEFT_OUT),
)


def repro(parsed: Parsed, session: Session) -> int:
    """Build twice and compare; 1 where something differs."""
    request = request_of(parsed)
    kind = progress_kind(parsed)
    with session.engine() as engine:
        from pybuild.cli.progress import display_of
        from runtime.cancel import Cancel

        cancel = Cancel()
        display = display_of(kind)
        with interrupted(cancel, display) as stopped_by:
            try:
                verdict = engine.reproduce(request, display, cancel)
            except Exception as error:
                if stopped_by and type(error).__name__ == "Canceled":
                    print("build canceled", file=sys.stderr)
                    return 128 + stopped_by[0]
                raise
            finally:
                display.finish()
    print(f"built twice; the second time other: {', '.join(verdict.conditions)}")
    found = verdict.difference
    if found is None:
        print(f"reproducible: {verdict.steps} steps made the same files")
        if verdict.advice:
            print(f"hint: {verdict.advice}")
        return 0
    stage = f" (stage {found.made.stage})" if found.made.stage else ""
    print(f"not reproducible: line {found.made.line}: {found.made.title}{stage}")
    print(f"  {found.path}: {', '.join(found.what)}")
    if found.others:
        print(f"  and {found.others} more files of this step")
    print(f"  known cause: {found.cause}" if found.cause else "  no cause is known for such a file")
    return 1


VERBS = {"repro": Verb(SYNTAX, repro)}
