"""`build --call`: questions about a build that are answered instead of building.

Owns the answers' form, BuildKit's words and JSON. Source: buildx build, "--call".
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pybuild.cli.options import Parsed, Syntax, usage_error
from pybuild.cli.table import render
from pybuild.errors import NotSupported
from values.classes import dataclass

if TYPE_CHECKING:
    from builder.definition import DockerfileText
    from builder.errors import Place
    from builder.lint.check import CheckReport
    from builder.outline import Outline, OutlineMount, Target
    from builder.request import BuildRequest
    from grammar.ast import Span
    from pybuild.engine.engine import Engine

_METHODS = ("build", "check", "outline", "targets", "subrequests.describe")
_LATER = ("convertllb",)
# What can be asked besides building, in BuildKit's words: name, description, options, results.
_SUBREQUESTS = (
    (
        "outline",
        "List all parameters current build target supports",
        (("target", "Target build stage"),),
        ("result.json", "result.txt"),
    ),
    ("targets", "List all targets current build supports", (), ("result.json", "result.txt")),
    ("lint", "Lint a Dockerfile", (), ("result.json", "result.txt", "result.statuscode")),
    (
        "subrequests.describe",
        "List available subrequest types",
        None,
        ("result.json", "result.txt"),
    ),
)

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Call:
    """What `--call` asks. ignores_status: violations are no reason to end with 1."""

    method: str
    is_json: bool = False
    ignores_status: bool = False


def call_of(parsed: Parsed, syntax: Syntax) -> Call | None:
    """Return what is asked for, None for a build. Raises UsageError, NotSupported."""
    text = parsed.text("call") or "build"
    if parsed.flag("check"):
        if text.partition(",")[0] not in ("build", "check", "lint"):
            raise usage_error(syntax, f"--check and --call={text} contradict each other")
        text = f"check{text.removeprefix('build').removeprefix('check').removeprefix('lint')}"
    return parse_call(text, syntax)


def parse_call(text: str, syntax: Syntax) -> Call | None:
    """Return what METHOD[,OPTION…] asks, None for a build. Raises UsageError, NotSupported."""
    method, *options = text.split(",")
    if method in _LATER:
        raise NotSupported(f"--call={method}: not supported yet")
    method = {"lint": "check"}.get(method, method)
    if method not in _METHODS:
        raise usage_error(syntax, f'--call: "{method}" is none of {", ".join(_METHODS)}')
    call = Call(method)
    for option in options:
        key, _, value = option.partition("=")
        if key == "format" and value in ("json", "text"):
            call = Call(method, value == "json", call.ignores_status)
        elif key == "ignorestatus" and value in ("", "true", "1", "false", "0"):
            call = Call(method, call.is_json, value in ("", "true", "1"))
        elif option:
            raise usage_error(syntax, f'--call: "{option}" is neither format=json nor ignorestatus')
    return None if method == "build" else call


def answer(call: Call, request: BuildRequest, engine: Engine) -> int:
    """Print the answer to stdout and return the exit code. Raises what a check calls an error."""
    if call.method == "check":
        report = engine.lint(request)
        print_report(report, is_json=call.is_json)
        return int(bool(report.violations) and not call.ignores_status)
    if call.method == "subrequests.describe":
        print(_dumped(_subrequests_json()) if call.is_json else subrequests_text())
        return 0
    if call.method == "outline":
        text, outline = engine.outline(request)
        said = _dumped(_outline_json(outline, text)) if call.is_json else outline_text(outline)
        if said:  # a file may take nothing
            print(said)
        return 0
    text, targets = engine.targets(request)
    print(_dumped(_targets_json(targets, text)) if call.is_json else targets_text(targets))
    return 0


def print_report(report: CheckReport, *, is_json: bool) -> None:
    """Print what a check found; then raise the first of its errors, the others printed before."""
    for name in report.unknown:
        print(f"note: {name} is neither here nor reachable; variables may be its", file=sys.stderr)
    if is_json:
        print(_dumped(_report_json(report)))
    elif report.violations or not report.errors:
        print(report_text(report))
    for error in report.errors[1:]:
        print(f"error: {error}", file=sys.stderr)
    if report.errors:
        raise report.errors[0]


def report_text(report: CheckReport) -> str:
    """Return what a check found, in BuildKit's words, each with the lines it is about."""
    count = len(report.violations)
    if not count:
        return "Check complete, no warnings found."
    were = "warning has" if count == 1 else "warnings have"
    parts = [f"Check complete, {count} {were} been found!"]
    for found in report.violations:
        parts.append(f"\nWARNING: {found.rule.name} - {found.rule.page}\n{found.message}")
        if found.place is not None:
            parts.append(found.place.excerpt())
    return "\n".join(parts)


def outline_text(outline: Outline) -> str:
    """Return an outline as tables."""
    tables = []
    if outline.name or outline.description:
        rows = [("DESCRIPTION:", outline.description)] if outline.description else []
        tables.append(render(("TARGET:", outline.name or "(default)"), rows))
    if outline.args:
        rows3 = [(arg.name, arg.value, arg.description) for arg in outline.args]
        tables.append(render(("BUILD ARG", "VALUE", "DESCRIPTION"), rows3))
    for title, mounts in (("SECRET", outline.secrets), ("SSH", outline.ssh)):
        if mounts:
            rows = [(mount.name, "true" if mount.is_required else "") for mount in mounts]
            tables.append(render((title, "REQUIRED"), rows))
    return "\n".join(tables).rstrip("\n")


def targets_text(targets: tuple[Target, ...]) -> str:
    """Return targets as a table."""
    rows = []
    for target in targets:
        name = f"{target.name} (default)".lstrip() if target.is_default else target.name
        rows.append((name, target.base, target.platform, target.description))
    return render(("TARGET", "BASE", "PLATFORM", "DESCRIPTION"), rows).rstrip("\n")


def subrequests_text() -> str:
    """Return what can be asked as a table."""
    rows = [(name, "1.0.0", description) for name, description, _, _ in _SUBREQUESTS]
    return render(("NAME", "VERSION", "DESCRIPTION"), rows).rstrip("\n")


def _subrequests_json() -> list[Json]:
    def named(pairs: Iterable[tuple[str, str]]) -> list[Json]:
        return [{"name": name, "description": description} for name, description in pairs]

    return [
        {
            "name": f"frontend.{name}",
            "version": "1.0.0",
            "type": "rpc",
            "description": description,
            "opts": None if options is None else named(options),
            "inputs": None,
            "metadata": named((result, "") for result in results),
            "refs": None,
        }
        for name, description, options, results in _SUBREQUESTS
    ]


def _dumped(value: Json | list[Json]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _report_json(report: CheckReport) -> Json:
    document: Json = {
        "warnings": [
            {
                "ruleName": found.rule.name,
                "description": found.rule.description,
                "page": found.rule.page,
                "detail": found.message,
                "location": _place(found.place),
            }
            for found in report.violations
        ],
        "sources": [_source(report.dockerfile)],
    }
    if report.errors:
        from builder.errors import InstructionError
        from grammar.errors import DockerfileSyntaxError

        error = report.errors[0]
        location = _place(error.place) if isinstance(error, InstructionError) else {}
        if isinstance(error, DockerfileSyntaxError):
            location = _lines(error.line, error.line)
        document["buildError"] = {"message": str(error), "location": location}
    return document


def _source(text: DockerfileText) -> Json:
    data = base64.b64encode(text.data).decode()
    return {"filename": text.name, "language": "Dockerfile", "data": data}


def _place(place: Place | None) -> Json:
    return _lines(place.first_line, place.last_line) if place is not None else {}


def _lines(first: int, last: int) -> Json:
    return {"ranges": [{"start": {"line": first}, "end": {"line": last}}]}


def _location(span: Span) -> Json:
    return _lines(span.first_line, span.last_line)


def _without_empty(**fields: object) -> Json:
    """Return what Go's omitempty leaves."""
    return {key: value for key, value in fields.items() if value not in ("", False, [])}


def _outline_json(outline: Outline, text: DockerfileText) -> Json:
    args = [
        _without_empty(
            name=arg.name,
            description=arg.description,
            value=arg.value,
            location=_location(arg.span),
        )
        for arg in outline.args
    ]
    return _without_empty(
        name=outline.name,
        description=outline.description,
        args=args,
        secrets=[_mount_json(mount) for mount in outline.secrets],
        ssh=[_mount_json(mount) for mount in outline.ssh],
        sources=[base64.b64encode(text.data).decode()],
    )


def _mount_json(mount: OutlineMount) -> Json:
    return _without_empty(
        name=mount.name, required=mount.is_required, location=_location(mount.span)
    )


def _targets_json(targets: tuple[Target, ...], text: DockerfileText) -> Json:
    rows = [
        _without_empty(
            name=target.name,
            default=target.is_default,
            description=target.description,
            base=target.base,
            platform=target.platform,
            location=_location(target.span),
        )
        for target in targets
    ]
    return {"targets": rows, "sources": [base64.b64encode(text.data).decode()]}
