"""The build verb: command line → `BuildRequest`, events → progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from pybuild.cli.buildvalues import (
    allowed,
    build_args,
    parse_add_host,
    parse_annotation,
    parse_attests,
    parse_budget,
    parse_cache,
    parse_context,
    parse_jobs,
    parse_label,
    parse_network,
    parse_output,
    parse_secret,
    parse_size,
    parse_ssh,
    parse_stage_tag,
    parse_ulimit,
    words,
)
from pybuild.cli.interruption import interrupted
from pybuild.cli.options import Parsed, Syntax, flag, many, perhaps, usage_error, value
from pybuild.cli.smallfiles import check_small_files, write_small_file
from pybuild.cli.verb import Session, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.request import BuildRequest, CachePlace, Output, Sandbox
    from pybuild.cli.display import Display
    from pybuild.engine.builds import BuildResult
    from pybuild.engine.engine import Engine
    from runtime.cancel import Cancel

SYNTAX = Syntax(
    verb="build",
    usage="[build] [OPTIONS] CONTEXT",
    summary="Build an image from a Dockerfile.",
    options=(
        value("file", "FILE", "the Dockerfile: a file, an address or - (CONTEXT/Dockerfile)", "f"),
        many("tag", "[STAGE=]NAME[:TAG]", "name for the image, or for that of a stage", "t"),
        many("build-context", "NAME=WHERE", "another context, an image or a stage by this name"),
        many("build-arg", "K=V", "value of an ARG; K alone takes the environment's"),
        value("target", "STAGE", "stage to build (default: the last one)"),
        many("also", "STAGE", "another stage to build: tests, lint; may be given again"),
        flag("no-cache", "run every step"),
        many("no-cache-filter", "STAGE", "run every step of this stage; several with commas"),
        flag("explain", "say at the end why each step ran"),
        flag("profile", "say at the end what each step took, and what the cache saved"),
        many("budget", "KEY=LIMIT,…", "fail above image=200MB, step=60s or total=5m"),
        value("progress", "KIND", "auto, tty, plain, quiet, none or rawjson"),
        flag("quiet", "print the image ID only", "q"),
        many("output", "TYPE", "where the result goes, as type=oci,dest=FILE", "o"),
        value(
            "provenance", "MODE", "attest how the image came about: min, max, mode=…,builder-id=…"
        ),
        value("sbom", "true", "attest the packages in the image, ours or generator=IMAGE's list"),
        many("attest", "TYPE", "the same two as type=sbom,… and type=provenance,…"),
        many("cache-from", "TYPE", "where to look up results too, as type=registry,ref=NAME"),
        many("cache-to", "TYPE", "where to add this build's results, as type=local,dest=DIR"),
        many("platform", "OS/ARCH", "platform of the result; several make an index"),
        many("label", "K=V", "label for the image; may be given again"),
        many("annotation", "K=V", "annotation of the manifest, or TYPE:K=V of an index, …"),
        value("iidfile", "FILE", "write the image ID into FILE"),
        value("metadata-file", "FILE", "write digests and names into FILE, as JSON"),
        value(
            "jobs", "N", "steps that may run at once (default: one a processor, at least 4)", "j"
        ),
        value(
            "network",
            "MODE",
            "network of RUN steps: default, none, host, pasta[:OPTIONS], slirp4netns[:OPTIONS]",
        ),
        many("add-host", "NAME:ADDRESS", "line for RUN's /etc/hosts"),
        value("shm-size", "SIZE", "size of RUN's /dev/shm (default: 64m)"),
        many("ulimit", "NAME=SOFT[:HARD]", "limit of RUN's processes, as nofile=1024:2048"),
        value("cgroup-parent", "CGROUP", "cgroup below which RUN's containers have theirs"),
        value("isolation", "KIND", "wall around RUN: default, or chroot: hardly any"),
        many("secret", "id=…", "for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME]"),
        perhaps("allow-secret-leak", "[=ID]", "go on where the image has a secret's value in it"),
        many("ssh", "ID[=PATH]", "for RUN --mount=type=ssh: an agent's socket, or keys"),
        flag("no-keep-failed", "keep nothing of a step that fails: it cannot be entered"),
        many("allow", "WHAT", "network.host or security.insecure for RUN, or buildx.local.delete"),
        flag("pull", "ask the registry for base images that are here too"),
        flag("locked", "take the sources that the lock names and no others; see pybuild lock"),
        value("lock-file", "FILE", "the lock (default: Dockerfile.lock beside the Dockerfile)"),
        flag("push", "push the image; short for --output type=registry"),
        flag("tls-verify", "=false takes any certificate, and plain HTTP (default: true)"),
        many("ca", "FILE", "PEM file with certificates to trust; may be given again"),
        flag("check", "lint the Dockerfile instead; short for --call check"),
        value("call", "METHOD", "answer instead: check, outline, targets, …[,format=json]"),
        flag("load", "keep the image in the store; without --output that is the default"),
    ),
    at_least=1,
    at_most=1,
    later=(
        "builder"
        " cgroupns compress cpu-period cpu-quota cpu-shares/c cpuset-cpus"
        " cpuset-mems debug/D disable-content-trust force-rm memory/m memory-swap"
        " policy resource rm security-opt squash"
    ),
)

_LONG_LINE_BYTES = 400


def build(parsed: Parsed, session: Session) -> int:
    """Build what the command line asks for."""
    request = request_of(parsed)
    check_small_files(parsed, "iidfile", "metadata-file")
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
        display = _with_afterwards(display_of(kind), parsed, engine)
        with interrupted(cancel, display) as stopped_by:
            try:
                result = _watched(engine, request, display, cancel)
            except Exception as error:
                if stopped_by and type(error).__name__ == "Canceled":
                    print("build canceled", file=sys.stderr)
                    return 128 + stopped_by[0]
                raise
    _announce(result, parsed, quiet=kind == "quiet")
    return 0


def _with_afterwards(display: Display, parsed: Parsed, engine: Engine) -> Display:
    """Return a display that also says what the options want to be said at the end."""
    texts: list[Callable[[str], str]] = []
    if parsed.flag("explain"):
        from pybuild.cli.why import explained

        texts.append(lambda build_id: explained(engine.why(build_id)))
    if parsed.flag("profile"):
        from pybuild.cli.buildshow import profile

        texts.append(lambda build_id: profile(engine.journal(build_id)))
    if not texts:
        return display
    from pybuild.cli.afterwards import Afterwards

    return Afterwards(display, texts)


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
                failed.output = last_lines(failed.log_path, display.unseen_lines)
        raise
    finally:
        display.finish()


def last_lines(path: str, count: int) -> str:
    """Return the last lines of a log, at least as far back as `count` long ones reach."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - count * _LONG_LINE_BYTES))
        lines = file.read().decode(errors="replace").rstrip("\n").split("\n")
    return "\n".join(lines[-count:])


VERBS = {"build": Verb(SYNTAX, build)}


def request_of(parsed: Parsed) -> BuildRequest:
    """Return the build that the command line describes.

    Raises UsageError and NotSupported. Reads stdin for `-f -`.
    """
    from builder.request import ALL, BuildRequest

    dockerfile = parsed.text("file")
    context = parsed.arguments[0]
    network = parse_network(parsed.text("network"))
    provenance, sbom = parse_attests(
        parsed.many("attest"), parsed.text("provenance"), parsed.text("sbom")
    )
    named = ",".join(parsed.many("platform"))
    platform = named or os.environ.get("DOCKER_DEFAULT_PLATFORM") or None
    return BuildRequest(
        context=context,
        context_stream=sys.stdin.buffer if context == "-" else None,
        contexts=tuple(map(parse_context, parsed.many("build-context"))),
        dockerfile=dockerfile,
        dockerfile_text=_read_stdin(context) if dockerfile == "-" else None,
        tags=tuple(tag for tag in parsed.many("tag") if "=" not in tag),
        stage_tags=tuple(parse_stage_tag(tag) for tag in parsed.many("tag") if "=" in tag),
        also=parsed.many("also"),
        build_args=tuple(build_args(parsed.many("build-arg"))),
        labels=tuple(map(parse_label, parsed.many("label"))),
        target=parsed.text("target") or None,
        no_cache=parsed.flag("no-cache"),
        no_cache_stages=tuple(words(parsed.many("no-cache-filter"))),
        platform=platform,
        outputs=_outputs(parsed),
        jobs=parse_jobs(parsed.text("jobs")),
        secrets=tuple(map(parse_secret, parsed.many("secret"))),
        allow_secret_leak=tuple(name or ALL for name in parsed.many("allow-secret-leak")),
        ssh=tuple(map(parse_ssh, parsed.many("ssh"))),
        keep_failed=not parsed.flag("no-keep-failed"),
        allow=allowed(parsed.many("allow"), network),
        network=network,
        sandbox=_sandbox(parsed),
        annotations=tuple(map(parse_annotation, parsed.many("annotation"))),
        cache_from=tuple(parse_cache("--cache-from", t) for t in parsed.many("cache-from")),
        cache_to=_cache_to(parsed),
        provenance=provenance,
        sbom=sbom,
        pull=parsed.flag("pull"),
        tls_verify=parsed.text("tls-verify") != "false",
        ca_files=parsed.many("ca"),
        budget=parse_budget(parsed.many("budget")),
        locked=parsed.flag("locked"),
        lock_file=parsed.text("lock-file"),
    )


def _cache_to(parsed: Parsed) -> tuple[CachePlace, ...]:
    """Return where the cache goes; docker's BUILDKIT_INLINE_CACHE=1 means the image itself too."""
    from builder.request import CachePlace

    places = tuple(parse_cache("--cache-to", text) for text in parsed.many("cache-to"))
    if "BUILDKIT_INLINE_CACHE=1" in parsed.many("build-arg"):
        return (*places, CachePlace("inline"))
    return places


def _sandbox(parsed: Parsed) -> Sandbox:
    from builder.request import Sandbox

    return Sandbox(
        extra_hosts=tuple(map(parse_add_host, parsed.many("add-host"))),
        shm_bytes=parse_size("--shm-size", parsed.text("shm-size")),
        ulimits=tuple({u.name: u for u in map(parse_ulimit, parsed.many("ulimit"))}.values()),
        cgroup_parent=parsed.text("cgroup-parent") or "",
        isolation=_isolation(parsed.text("isolation") or "default"),
    )


def _isolation(text: str) -> str:
    if text not in ("default", "chroot"):
        raise usage_error(SYNTAX, f"--isolation {text}: it is default or chroot")
    return "chroot" if text == "chroot" else ""


def _read_stdin(context: str) -> bytes:
    if context == "-":
        raise usage_error(SYNTAX, "standard input cannot be both context and Dockerfile")
    return sys.stdin.buffer.read()


def _outputs(parsed: Parsed) -> tuple[Output, ...]:
    from builder.request import Output

    outputs = tuple(parse_output(text) for text in parsed.many("output"))
    if parsed.flag("load") and outputs:
        outputs = (Output("image"), *outputs)
    if parsed.flag("push"):
        outputs = (*outputs, Output("registry"))
    return outputs


def progress_kind(parsed: Parsed, syntax: Syntax = SYNTAX) -> str:
    """Return the kind of progress that the command line and BUILDKIT_PROGRESS ask for.

    Raises UsageError for one that does not exist, and for --quiet beside another one.
    """
    from pybuild.cli.progress import KINDS

    named = parsed.text("progress")
    if named is not None and named not in KINDS:
        raise usage_error(syntax, f'--progress: "{named}" is none of {", ".join(KINDS)}')
    if parsed.flag("quiet"):
        if named not in (None, "auto", "quiet"):
            raise usage_error(syntax, f"--progress {named} and --quiet cannot be used together")
        return "quiet"
    # What the environment asks for is a wish; what the command line asks for is an order.
    wished = os.environ.get("BUILDKIT_PROGRESS", "auto")
    return named or (wished if wished in KINDS and wished != "tty" else "auto")


def _announce(result: BuildResult, parsed: Parsed, *, quiet: bool) -> None:
    iidfile, metadata_file = parsed.text("iidfile"), parsed.text("metadata-file")
    if iidfile is not None and result.image_id is not None:
        write_small_file("--iidfile", iidfile, result.image_id)
    if metadata_file is not None:
        import json

        write_small_file(
            "--metadata-file", metadata_file, json.dumps(result.metadata, indent=2) + "\n"
        )
    if quiet and result.image_id is not None and not result.used_stdout:
        print(result.image_id)
