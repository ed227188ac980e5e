"""The build verb: command line → `BuildRequest`, events → progress."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from pybuild.cli.options import Parsed, Syntax, flag, many, usage_error, value
from pybuild.cli.verb import Session, Verb
from pybuild.errors import NotSupported

if TYPE_CHECKING:
    from builder.request import BuildRequest, Output, SecretSource, SshSource
    from pybuild.cli.progress import Display
    from pybuild.engine.builds import BuildResult
    from pybuild.engine.engine import Engine
    from runtime.cancel import Cancel

SYNTAX = Syntax(
    verb="build",
    usage="[build] [OPTIONS] CONTEXT",
    summary="Build an image from a Dockerfile.",
    options=(
        value("file", "FILE", "the Dockerfile: a file, an address or - (CONTEXT/Dockerfile)", "f"),
        many("tag", "NAME[:TAG]", "name for the image; may be given again", "t"),
        many("build-context", "NAME=WHERE", "another context, an image or a stage by this name"),
        many("build-arg", "K=V", "value of an ARG; K alone takes the environment's"),
        value("target", "STAGE", "stage to build (default: the last one)"),
        flag("no-cache", "run every step"),
        many("no-cache-filter", "STAGE", "run every step of this stage; several with commas"),
        value("progress", "KIND", "auto, tty, plain, quiet, none or rawjson"),
        flag("quiet", "print the image ID only", "q"),
        many("output", "TYPE", "where the result goes, as type=oci,dest=FILE", "o"),
        value("platform", "OS/ARCH", "platform of the result"),
        many("label", "K=V", "label for the image; may be given again"),
        value("iidfile", "FILE", "write the image ID into FILE"),
        value(
            "jobs", "N", "steps that may run at once (default: one a processor, at least 4)", "j"
        ),
        value("network", "MODE", "network of RUN steps: default, none or host"),
        many("secret", "id=…", "for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME]"),
        many("ssh", "ID[=PATH]", "for RUN --mount=type=ssh: an agent's socket, or keys"),
        many("allow", "WHAT", "let RUN have network.host or security.insecure"),
        flag("pull", "ask the registry for base images that are here too"),
        flag("push", "push the image; short for --output type=registry"),
        flag("tls-verify", "=false takes any certificate, and plain HTTP (default: true)"),
        many("ca", "FILE", "PEM file with certificates to trust; may be given again"),
        flag("check", "lint the Dockerfile instead; short for --call check"),
        value("call", "METHOD", "answer instead: check, outline or targets[,format=json]"),
        flag("load", "keep the image in the store; without --output that is the default"),
    ),
    at_least=1,
    at_most=1,
    later=(
        "add-host annotation attest builder cache-from cache-to"
        " cgroup-parent cgroupns compress cpu-period cpu-quota cpu-shares/c cpuset-cpus"
        " cpuset-mems debug/D disable-content-trust force-rm isolation memory/m memory-swap"
        " metadata-file policy provenance resource rm sbom"
        " security-opt shm-size squash ulimit"
    ),
)

_NETWORKS = ("default", "none", "host")
_SECRET_KEYS = ("id", "type", "src", "source", "env")
_LONG_LINE_BYTES = 400
_ENTITLEMENTS = ("network.host", "security.insecure")


def build(parsed: Parsed, session: Session) -> int:
    """Build what the command line asks for."""
    request = request_of(parsed)
    if parsed.flag("check") or parsed.text("call") is not None:
        from pybuild.cli.call import answer, call_of

        call = call_of(parsed, SYNTAX)
        if call is not None:
            with session.engine() as engine:
                return answer(call, request, engine)
    kind = progress_kind(parsed)
    with session.engine() as engine:
        from pybuild.cli.progress import display_of
        from runtime.cancel import Cancel

        cancel = Cancel()
        with _stopping(cancel.set) as stopped_by:
            try:
                result = _watched(engine, request, display_of(kind), cancel)
            except Exception as error:
                if stopped_by and type(error).__name__ == "Canceled":
                    print("build canceled", file=sys.stderr)
                    return 128 + stopped_by[0]
                raise
    _announce(result, parsed, quiet=kind == "quiet")
    return 0


def _watched(
    engine: Engine, request: BuildRequest, display: Display, cancel: Cancel
) -> BuildResult:
    """Build, and show how; an error then has as much of its step's log as was not seen."""
    try:
        return engine.build(request, display, cancel)
    except Exception as error:
        from builder.errors import StepFailed, StepsFailed

        for failed in error.errors if isinstance(error, StepsFailed) else (error,):
            if isinstance(failed, StepFailed) and failed.log_path and display.unseen_lines:
                failed.output = _last_lines(failed.log_path, display.unseen_lines)
        raise
    finally:
        display.finish()


def _last_lines(path: str, count: int) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - count * _LONG_LINE_BYTES))
        lines = file.read().decode(errors="replace").rstrip("\n").split("\n")
    return "\n".join(lines[-count:])


VERBS = {"build": Verb(SYNTAX, build)}


def request_of(parsed: Parsed) -> BuildRequest:
    """Return the build that the command line describes.

    Raises UsageError and NotSupported. Reads stdin for `-f -`.
    """
    from builder.request import BuildRequest

    dockerfile = parsed.text("file")
    context = parsed.arguments[0]
    network = parsed.text("network") or "default"
    if network not in _NETWORKS:
        raise NotSupported(f"--network {network}: not supported yet")
    platform = parsed.text("platform") or os.environ.get("DOCKER_DEFAULT_PLATFORM") or None
    if platform is not None and "," in platform:
        raise NotSupported("--platform: several platforms in one build: not supported yet")
    return BuildRequest(
        context=context,
        context_stream=sys.stdin.buffer if context == "-" else None,
        contexts=tuple(_context(word) for word in parsed.many("build-context")),
        dockerfile=dockerfile,
        dockerfile_text=_read_stdin(context) if dockerfile == "-" else None,
        tags=parsed.many("tag"),
        build_args=tuple(_build_args(parsed.many("build-arg"))),
        labels=tuple(_pair(text) for text in parsed.many("label")),
        target=parsed.text("target") or None,
        no_cache=parsed.flag("no-cache"),
        no_cache_stages=tuple(_words(parsed.many("no-cache-filter"))),
        platform=platform,
        outputs=_outputs(parsed),
        jobs=_jobs(parsed.text("jobs")),
        secrets=tuple(map(parse_secret, parsed.many("secret"))),
        ssh=tuple(map(parse_ssh, parsed.many("ssh"))),
        allow=_allowed(parsed.many("allow"), network),
        network=network,
        pull=parsed.flag("pull"),
        tls_verify=parsed.text("tls-verify") != "false",
        ca_files=parsed.many("ca"),
    )


def parse_output(text: str) -> Output:
    """Return the output that `text` describes, `type=oci,dest=FILE` in CSV.

    A word without `=` is docker's short form: a directory, or `-` for a tar on stdout.
    """
    from builder.request import Output

    if "=" not in text and "," not in text:
        return Output("tar" if text == "-" else "local", (("dest", text),))
    pairs = list(_csv_pairs("--output", text))
    kinds = [option for key, option in pairs if key == "type"]
    if not kinds:
        raise usage_error(SYNTAX, f'--output: "{text}" names no type', "as in type=oci,dest=FILE")
    return Output(kinds[-1], tuple(pair for pair in pairs if pair[0] != "type"))


def parse_secret(text: str) -> SecretSource:
    """Return the secret that `text` describes, `id=token,src=FILE` in CSV."""
    from builder.request import SecretSource

    given = dict(_csv_pairs("--secret", text))
    for key, option in given.items():
        if key not in _SECRET_KEYS or (key == "type" and option not in ("file", "env")):
            raise usage_error(SYNTAX, f'--secret: unknown "{key}={option}"')
    name, kind = given.get("id", ""), given.get("type")
    if not name:
        raise usage_error(SYNTAX, f'--secret: "{text}" has no id', "as in id=token,src=FILE")
    path = given.get("src") or given.get("source")
    if kind == "env":
        return SecretSource(name, variable=given.get("env") or path or name)
    if kind == "file" or path:
        return SecretSource(name, path=path or name)
    return SecretSource(name, variable=given.get("env") or None)


def parse_ssh(text: str) -> SshSource:
    """Return the key agent that `text` describes: `default`, `id=SOCKET` or `id=KEY,KEY`."""
    from builder.request import SshSource

    name, _, paths = text.partition("=")
    if not name:
        raise usage_error(SYNTAX, f'--ssh: "{text}" has no id', "as in --ssh default")
    return SshSource(name, tuple(path for path in paths.split(",") if path))


def _allowed(words: tuple[str, ...], network: str) -> tuple[str, ...]:
    names = [name.strip() for word in words for name in word.split(",")]
    for name in names:
        if name not in _ENTITLEMENTS:
            raise NotSupported(f"--allow {name}: not supported yet")
    if network == "host" and "network.host" not in names:
        names.append("network.host")
    return tuple(names)


def _words(texts: tuple[str, ...]) -> Iterator[str]:
    for text in texts:
        yield from filter(None, (word.strip() for word in text.split(",")))


def _csv_pairs(flag_name: str, text: str) -> Iterator[tuple[str, str]]:
    import csv

    for field in next(csv.reader([text], strict=True), []):
        key, equals, option = field.partition("=")
        if not equals:
            raise usage_error(SYNTAX, f'{flag_name}: "{field}" is no key=value')
        yield key.strip().lower(), option


def _read_stdin(context: str) -> bytes:
    if context == "-":
        raise usage_error(SYNTAX, "standard input cannot be both context and Dockerfile")
    return sys.stdin.buffer.read()


def _context(word: str) -> tuple[str, str]:
    name, _, where = word.partition("=")
    if not name or not where:
        raise usage_error(SYNTAX, f'--build-context: "{word}" is no NAME=WHERE')
    return name, where


def _build_args(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, equals, text = word.partition("=")
        if not name:
            raise usage_error(SYNTAX, f'--build-arg: "{word}" has no name')
        if equals:
            yield name, text
        elif name in os.environ:
            yield name, os.environ[name]


def _pair(word: str) -> tuple[str, str]:
    key, _, text = word.partition("=")
    if not key:
        raise usage_error(SYNTAX, f'--label: "{word}" has no key')
    return key, text


def _outputs(parsed: Parsed) -> tuple[Output, ...]:
    from builder.request import Output

    outputs = tuple(parse_output(text) for text in parsed.many("output"))
    if parsed.flag("load") and outputs:
        outputs = (Output("image"), *outputs)
    if parsed.flag("push"):
        outputs = (*outputs, Output("registry"))
    return outputs


def _jobs(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise usage_error(SYNTAX, f'--jobs: "{text}" is no number above 0')
    return int(text)


def progress_kind(parsed: Parsed) -> str:
    """Return the kind of progress that the command line and BUILDKIT_PROGRESS ask for.

    Raises UsageError for one that does not exist, and for --quiet beside another one.
    """
    from pybuild.cli.progress import KINDS

    named = parsed.text("progress")
    if named is not None and named not in KINDS:
        raise usage_error(SYNTAX, f'--progress: "{named}" is none of {", ".join(KINDS)}')
    if parsed.flag("quiet"):
        if named not in (None, "auto", "quiet"):
            raise usage_error(SYNTAX, f"--progress {named} and --quiet cannot be used together")
        return "quiet"
    # What the environment asks for is a wish; what the command line asks for is an order.
    wished = os.environ.get("BUILDKIT_PROGRESS", "auto")
    return named or (wished if wished in KINDS else "auto")


@contextmanager
def _stopping(stop: Callable[[], object]) -> Iterator[list[int]]:
    """Call `stop` at the first SIGINT or SIGTERM; a second SIGINT interrupts at once.

    Yields the list of signals that came.
    """
    came: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        came.append(number)
        stop()
        if len(came) > 1:
            raise KeyboardInterrupt

    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _announce(result: BuildResult, parsed: Parsed, *, quiet: bool) -> None:
    iidfile = parsed.text("iidfile")
    if iidfile is not None and result.image_id is not None:
        with open(iidfile, "w") as out:
            out.write(result.image_id)
    if quiet and result.image_id is not None and not result.used_stdout:
        print(result.image_id)
