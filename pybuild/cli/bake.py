"""The bake verb: several targets of bake files, in one run. Source: buildx commands/bake.go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pybuild.cli.build import SYNTAX as BUILD
from pybuild.cli.build import last_lines, progress_kind
from pybuild.cli.interruption import interrupted
from pybuild.cli.options import Parsed, Syntax, flag, many, usage_error, value
from pybuild.cli.smallfiles import check_small_files, write_small_file
from pybuild.cli.verb import Session, Verb
from pybuild.errors import BakeError, NotSupported

if TYPE_CHECKING:
    from builder.request import BuildRequest
    from pybuild.bake.files import BakeFiles
    from pybuild.bake.plan import BakePlan
    from pybuild.cli.call import Call
    from pybuild.cli.display import Display
    from pybuild.engine.builds import BuildResult
    from pybuild.engine.engine import Engine
    from runtime.cancel import Cancel

# Options that mean what they mean to build.
_AS_BUILD = {"progress", "jobs", "tls-verify", "ca"}
SYNTAX = Syntax(
    verb="bake",
    usage="bake [OPTIONS] [TARGET...]",
    summary="Build targets of bake files in one run; without a TARGET the one called default.",
    options=(
        many("file", "FILE", "a bake file: JSON, HCL or compose; several are merged", "f"),
        many("set", "TARGET.KEY=VALUE", "change a value, as *.platform=linux/arm64; += adds"),
        many("var", "NAME=VALUE", "value of a variable of the files"),
        flag("print", "print the targets as JSON instead of building them"),
        value("list", "WHAT", "list targets or variables; type=targets,format=json for programs"),
        flag("push", 'short for --set "*.output=type=registry" where that makes sense'),
        flag("load", 'short for --set "*.output=type=docker" where that makes sense'),
        flag("no-cache", 'short for --set "*.no-cache=true"'),
        flag("pull", 'short for --set "*.pull=true"'),
        value("provenance", "MODE", "attest how the images came about: true, min, max, mode=…"),
        value("sbom", "true", "attest the packages in the images"),
        many("allow", "WHAT", "let targets have network.host or security.insecure"),
        value("metadata-file", "FILE", "write digests and names into FILE, as JSON by target"),
        *(option for option in BUILD.options if option.name in _AS_BUILD),
        flag("check", "lint the Dockerfiles instead; short for --call check"),
        value("call", "METHOD", "answer instead: check, outline, targets[,format=json]"),
    ),
    at_most=None,
    later="builder debug/D execution policy",
)
_FILES = "BUILDX_BAKE_FILE"
_SEPARATOR = "BUILDX_BAKE_PATH_SEPARATOR"
# What of buildx's --allow needs no permission here.
_FREE = ("fs", "fs.read", "fs.write", "ssh")
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


def bake(parsed: Parsed, session: Session) -> int:
    """Build the targets that the command line names, or answer what it asks."""
    from pybuild.bake.plan import plan_of
    from pybuild.cli.call import call_of

    call = call_of(parsed, SYNTAX)
    kind = progress_kind(parsed, SYNTAX)
    files = _files(parsed)
    if parsed.text("list") is not None:
        return _list(parsed, files)
    plan = plan_of(files.found, parsed.arguments or ["default"], tuple(_overrides(parsed)))
    if parsed.flag("print"):
        from pybuild.bake.printing import plan_json

        print(plan_json(plan))
        return 0
    requests = _requests(plan, parsed)
    check_small_files(parsed, "metadata-file")
    with session.engine() as engine:
        asked = _asked(plan, call)
        to_build = {name: request for name, request in requests.items() if name not in asked}
        done: dict[str, BuildResult] = {}
        if to_build:
            code = _build(_Baking(to_build, parsed, kind, engine), done)
            if code:
                return code
        _write_metadata(parsed, done)
        return _answer(asked, requests, plan, engine) if asked else 0


VERBS = {"bake": Verb(SYNTAX, bake)}


# -- the command line


def _files(parsed: Parsed) -> BakeFiles:
    """Return what the bake files say. Raises BakeError."""
    from pybuild.bake.files import parse_files, read_files
    from store import platforms

    names = list(parsed.many("file"))
    if not names and os.environ.get(_FILES):
        separator = os.environ.get(_SEPARATOR) or os.pathsep
        names = [name.strip() for name in os.environ[_FILES].split(separator) if name.strip()]
    for word in parsed.arguments[:1]:
        if "://" in word or word.startswith("git@"):
            raise NotSupported(f"bake {word}: bake files from elsewhere are not supported yet")
    variables = {}
    for word in parsed.many("var"):
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise usage_error(SYNTAX, f'--var: invalid variable "{word}", expected key=value')
        variables[name] = text
    built_in = {"BAKE_CMD_CONTEXT": "cwd://", "BAKE_LOCAL_PLATFORM": str(platforms.host())}
    return parse_files(read_files(names), variables, built_in)


def _overrides(parsed: Parsed) -> Iterator[str]:
    """Yield the words of --set, and what other options are short for."""
    yield from parsed.many("set")
    for name in ("push", "load"):
        if parsed.flag(name):
            yield f"*.{name}=true"
    for name in ("no-cache", "pull"):
        text = parsed.text(name)
        if text is not None:
            yield f"*.{name}={text}"
    for name in ("sbom", "provenance"):
        text = parsed.text(name)
        if text is not None:
            yield f"*.attest=type={name}{_attested(text)}"


def _attested(text: str) -> str:
    """Return what `true`, `max` or `mode=max` means in an attestation's CSV."""
    if text.lower() in (*_TRUE, *_FALSE):
        return f",disabled={'false' if text.lower() in _TRUE else 'true'}"
    return f",{text}" if "=" in text else f",mode={text}"


def _requests(plan: BakePlan, parsed: Parsed) -> dict[str, BuildRequest]:
    from pybuild.bake.requests import Given, requests_of
    from pybuild.cli.buildvalues import allowed

    words = [word for option in parsed.many("allow") for word in option.split(",")]
    entitled = tuple(word for word in words if word.partition("=")[0] not in _FREE)
    given = Given(
        allow=allowed(entitled, ""),
        tls_verify=parsed.text("tls-verify") != "false",
        ca_files=parsed.many("ca"),
    )
    return requests_of(plan.targets, given)


# -- building


class _Baking:
    """What is built, and how it is shown."""

    def __init__(
        self, requests: Mapping[str, BuildRequest], parsed: Parsed, kind: str, engine: Engine
    ) -> None:
        from pybuild.cli.buildvalues import parse_jobs

        self.requests, self.kind, self.engine = requests, kind, engine
        self.jobs = parse_jobs(parsed.text("jobs"))


def _build(baking: _Baking, done: dict[str, BuildResult]) -> int:
    """Build targets; return an exit code where a signal ended it, else 0."""
    from pybuild.cli.progress import display_of
    from runtime.cancel import Cancel

    cancel = Cancel()
    display = display_of(baking.kind)
    with interrupted(cancel, display) as stopped_by:
        try:
            done |= _watched(baking, display, cancel)
        except Exception as error:
            if stopped_by and type(error).__name__ == "Canceled":
                print("build canceled", file=sys.stderr)
                return 128 + stopped_by[0]
            raise
    return 0


def _watched(baking: _Baking, display: Display, cancel: Cancel) -> dict[str, BuildResult]:
    """Build, and show how; an error then has as much of its step's log as was not seen."""
    try:
        return baking.engine.bake(baking.requests, display, cancel, jobs=baking.jobs)
    except Exception as error:
        from builder.errors import StepFailed, StepsFailed, TargetFailed

        for each in error.errors if isinstance(error, StepsFailed) else (error,):
            failed = each.cause if isinstance(each, TargetFailed) else each
            if isinstance(failed, StepFailed) and failed.log_path and display.unseen_lines:
                failed.output = last_lines(failed.log_path, display.unseen_lines)
        raise
    finally:
        display.finish()


def _write_metadata(parsed: Parsed, done: Mapping[str, BuildResult]) -> None:
    path = parsed.text("metadata-file")
    if path is None:
        return
    from pybuild.bake.printing import metadata_json

    text = metadata_json({name: result.metadata for name, result in done.items()})
    write_small_file("--metadata-file", path, text + "\n")


# -- answers


def _asked(plan: BakePlan, call: Call | None) -> dict[str, Call]:
    """Return what is asked about targets: by the command line about all, or by their own `call`."""
    from pybuild.cli.call import parse_call

    asked = {}
    for name, target in plan.targets.items():
        try:
            own = parse_call(target.text("call"), SYNTAX) if target.text("call") else None
        except NotSupported as error:
            raise BakeError(f"target {name}: {error}") from error
        found = call or own
        if found is not None and not (target.is_linked and call is None):
            asked[name] = found
    return asked


def _answer(
    asked: Mapping[str, Call],
    requests: Mapping[str, BuildRequest],
    plan: BakePlan,
    engine: Engine,
) -> int:
    """Print the answers about targets, one after the other, and return the exit code."""
    from pybuild.cli.call import answer
    from pybuild.cli.report import is_expected, message_of

    codes: list[int] = []
    as_json: dict[str, object] = {}
    for name in sorted(asked):
        call = asked[name]
        if not call.is_json:
            print("\n" * bool(codes) + name)
            if plan.targets[name].text("description"):
                print(plan.targets[name].text("description"))
            print(flush=True)
        try:
            request = _alone(requests[name])
            if call.is_json:
                codes.append(_json_answer(call, request, engine, as_json, name))
            else:
                codes.append(answer(call, request, engine))
        except Exception as error:
            if not is_expected(error):
                raise
            sys.stdout.flush()
            print(f"error: target {name}: {message_of(error)}", file=sys.stderr)
            codes.append(1)
    if as_json:
        _print_json_answers(plan, asked, as_json)
    return next((code for code in codes if code), 0)


def _json_answer(
    call: Call, request: BuildRequest, engine: Engine, found: dict[str, object], name: str
) -> int:
    """Put an answer into `found`, as the value that JSON says; return the exit code."""
    import contextlib
    import io
    import json

    from pybuild.cli.call import answer

    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            return answer(call, request, engine)
    finally:
        if out.getvalue():
            found[name] = json.loads(out.getvalue())


def _print_json_answers(
    plan: BakePlan, asked: Mapping[str, Call], found: Mapping[str, object]
) -> None:
    from pybuild.bake.printing import dumped, groups_json, target_json

    targets = {}
    for name in sorted(plan.targets):
        targets[name] = {"build": target_json(plan.targets[name])}
        if name in found:
            targets[name][asked[name].method] = found[name]  # type: ignore[assignment]
    print(dumped({"group": groups_json(plan), "target": targets}))


def _alone(request: BuildRequest) -> BuildRequest:
    """Return a request for a question: the targets that it stands on are not built for it."""
    from builder.namedcontexts import target_of
    from values.classes import replace

    places = (
        (name, where if target_of(where) is None else "docker-image://scratch")
        for name, where in request.contexts
    )
    return replace(request, contexts=tuple(places))


def _list(parsed: Parsed, files: BakeFiles) -> int:
    """Print the targets or the variables."""
    from pybuild.bake.printing import dumped, targets_listed, variables_listed
    from pybuild.cli.table import render

    what, as_json = _list_of(parsed)
    variables = files.definitions.variables() if files.definitions is not None else []
    if as_json:
        found = targets_listed(files.found) if what == "targets" else variables_listed(variables)
        print(dumped(found))
    elif what == "targets":
        rows = [
            (str(row["name"]), str(row.get("description", "")))
            for row in targets_listed(files.found)
        ]
        print(render(("TARGET", "DESCRIPTION"), rows), end="")
    else:
        cells = [
            (v.name, v.type, "<null>" if v.value is None else v.value, v.description)
            for v in variables
        ]
        print(render(("VARIABLE", "TYPE", "VALUE", "DESCRIPTION"), cells), end="")
    return 0


def _list_of(parsed: Parsed) -> tuple[str, bool]:
    """Return what --list names, and whether it is for programs. Raises UsageError."""
    if parsed.flag("print"):
        raise usage_error(SYNTAX, "--print and --list are mutually exclusive")
    text = parsed.text("list") or ""
    given = {"type": text}
    if "=" in text:
        given = {}
        for word in text.split(","):
            key, _, item = word.partition("=")
            if key not in ("type", "format"):
                raise usage_error(SYNTAX, f"--list: unexpected key '{key}' in '{word}'")
            given[key] = item
    what, form = given.get("type", ""), given.get("format", "table")
    if what not in ("targets", "variables"):
        raise usage_error(SYNTAX, f'--list: invalid list type "{what}"', "targets or variables")
    if form not in ("table", "json"):
        raise usage_error(SYNTAX, f'--list: invalid list format "{form}"', "table or json")
    return what, form == "json"
