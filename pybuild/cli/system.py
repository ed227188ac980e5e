"""The verbs info, version, system check and system prune."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from pybuild.cli.options import Parsed, Syntax, flag, value
from pybuild.cli.table import human_size
from pybuild.cli.verb import Session, Verb

INFO = Syntax(
    verb="info",
    usage="info [OPTIONS]",
    summary="Show this installation, its host and its store.",
    options=(value("format", "FORM", "json or a template", "f"),),
)
VERSION = Syntax(
    verb="version",
    usage="version [OPTIONS]",
    summary="Show the version of pybuild and of what it runs on.",
    options=(
        value("format", "FORM", "json or a template", "f"),
        flag("short", "the version alone, on one line"),
    ),
)
CHECK = Syntax(
    verb="system check",
    usage="system check [OPTIONS]",
    summary="Look for damage in the store; exit code 1 when there is any.",
    options=(flag("deep", "read every byte and check every digest"),),
)
PRUNE = Syntax(
    verb="system prune",
    usage="system prune [OPTIONS]",
    summary="Remove what neither an image, a container nor the build cache refers to.",
    options=(
        flag("all", "forget the build cache too", "a"),
        flag("force", "as docker's; nothing is asked here", "f"),
    ),
    later="volumes filter",
)


def info(parsed: Parsed, session: Session) -> int:
    """Print what there is to know."""
    with session.engine(reading=True) as engine:
        _print(engine.info(), parsed.text("format"))
    return 0


def version(parsed: Parsed, session: Session) -> int:
    """Print versions; the store is not looked at."""
    from pybuild.engine.info import own_version, versions

    if parsed.flag("short"):
        print(f"pybuild {own_version()}")
    else:
        _print(versions(), parsed.text("format"))
    return 0


def check(parsed: Parsed, session: Session) -> int:
    """Print a line for each problem, `clean` when there is none."""
    with session.engine(reading=True) as engine:
        problems = engine.check(deep=parsed.flag("deep"))
    for problem in problems:
        print(problem)
    if problems:
        count = len(problems)
        print(f"error: {count} problem{'s' if count > 1 else ''} found", file=sys.stderr)
        return 1
    print("clean")
    return 0


def prune(parsed: Parsed, session: Session) -> int:
    """Remove what is not needed and print what that freed."""
    with session.engine(reading=True) as engine:
        freed_bytes = engine.prune(forget_cache=parsed.flag("all"))
    print(f"Total reclaimed space: {human_size(freed_bytes)}")
    return 0


VERBS = {
    "info": Verb(INFO, info),
    "version": Verb(VERSION, version),
    "system check": Verb(CHECK, check),
    "system prune": Verb(PRUNE, prune),
}


def _print(values: Mapping[str, object], form: str | None) -> None:
    if form is None:
        width = max(map(len, values))
        for name, text in values.items():
            print(f"{name + ':':<{width + 1}} {text}")
        return
    from pybuild.cli.template import Template, to_json

    print(to_json(values) if form == "json" else Template(form).render(values))
