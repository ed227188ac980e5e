"""The verb run: command line → `RunRequest`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from pybuild.cli import waiting, walls
from pybuild.cli.options import Parsed, Syntax, flag, many, usage_error, value
from pybuild.cli.verb import Session, Verb
from pybuild.errors import NotSupported, PybuildError

if TYPE_CHECKING:
    from typing import TypedDict

    from pybuild.cli.transfers import PullWatcher
    from pybuild.engine.runrequest import HostFolder, RunRequest
    from runtime.network.ports import Published

    class _Networking(TypedDict):
        network: str
        ports: tuple[Published, ...]
        publish_all: bool
        dns: tuple[str, ...]


SYNTAX = Syntax(
    verb="run",
    usage="run [OPTIONS] IMAGE [COMMAND] [ARGUMENTS]",
    summary="Run a command in a new container; the exit code is the command's.",
    options=(
        flag("rm", "keep nothing of the container afterwards"),
        flag("interactive", "pass stdin on", "i"),
        flag("tty", "give the command a terminal", "t"),
        many("env", "K=V", "environment variable; K alone takes ours", "e"),
        many("env-file", "FILE", "file of environment variables, a line each"),
        value("workdir", "DIR", "working directory; made when missing", "w"),
        value("user", "USER[:GROUP]", "who runs the command", "u"),
        many("volume", "HOST:DIR[:ro]", "show a folder of the host in the container", "v"),
        many("mount", "SPEC", "as type=bind,source=HOST,target=DIR[,readonly]"),
        value("entrypoint", "COMMAND", "instead of the image's ENTRYPOINT"),
        value(
            "network",
            "MODE",
            "host, none, pasta[:OPTIONS] or slirp4netns[:OPTIONS]; the default is host for root, "
            "else pasta, slirp4netns or host, whichever there is first",
        ),
        value("net", "MODE", "the same as --network"),
        value("name", "NAME", "name of the container"),
        value("hostname", "NAME", "host name inside the container", "h"),
        many("publish", "[IP:][PORT:]PORT[/PROTOCOL]", "lead a port of the host into it", "p"),
        flag("publish-all", "lead free ports of the host to all that the image exposes", "P"),
        many("dns", "ADDRESS", "name server instead of the host's"),
        many("add-host", "NAME:ADDRESS", "line for /etc/hosts; host-gateway is the host"),
        many("label", "K=V", "label of the container", "l"),
        flag("read-only", "the container's root file system cannot be written to"),
        value("cidfile", "FILE", "write the container ID into FILE"),
        value(
            "pull", "WHEN", "ask the registry when the image is missing (default), always, never"
        ),
        flag("quiet", "do not show the progress of a pull", "q"),
        *walls.OPTIONS,
    ),
    at_least=1,
    at_most=None,
    options_first=True,
    later=(
        "annotation attach/a blkio-weight blkio-weight-device cgroup-parent cgroupns"
        " cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime"
        " detach/d detach-keys device-cgroup-rule device-read-bps device-read-iops"
        " device-write-bps device-write-iops disable-content-trust dns-option"
        " dns-search domainname expose gpus health-cmd health-interval health-retries"
        " health-start-interval health-start-period health-timeout init io-maxbandwidth"
        " io-maxiops ip ip6 ipc isolation kernel-memory label-file link link-local-ip"
        " log-driver log-opt mac-address memory-swappiness net-alias network-alias"
        " no-healthcheck oom-kill-disable pid platform restart"
        " runtime sig-proxy stop-signal stop-timeout storage-opt use-api-socket userns"
        " uts volume-driver volumes-from"
    ),
)


def run(parsed: Parsed, session: Session) -> int:
    """Run a command in a new container and return its exit code."""
    request = request_of(parsed)
    if request.tty and request.interactive and not sys.stdin.isatty():
        raise PybuildError("stdin is no terminal", hint="use -i without -t for pipes and files")
    cidfile = parsed.text("cidfile")
    if cidfile is not None and os.path.lexists(cidfile):
        raise PybuildError(f"--cidfile {cidfile}: the file exists already")

    watch = _watch(parsed)

    def created(container_id: str) -> None:
        if watch is not None:
            watch.finish()
        if cidfile is not None:
            with open(cidfile, "w") as out:
                out.write(container_id)

    with session.engine() as engine:
        try:
            rest = partial(waiting.rest, engine.root, session.debug)
            return engine.run(request, on_created=created, watch=watch, rest=rest)
        finally:
            if watch is not None:
                watch.finish()


VERBS = {"run": Verb(SYNTAX, run, in_container=True)}


def _watch(parsed: Parsed) -> PullWatcher | None:
    if parsed.flag("quiet"):
        return None
    from pybuild.cli.transfers import PullWatcher

    return PullWatcher()


def request_of(parsed: Parsed) -> RunRequest:
    """Return the container that the command line describes.

    Raises UsageError and NotSupported.
    """
    from pybuild.engine.runrequest import RunRequest

    image, *command = parsed.arguments
    pull = parsed.text("pull") or "missing"
    if pull not in ("missing", "always", "never"):
        raise usage_error(SYNTAX, f'--pull: "{pull}" is none of missing, always, never')
    entrypoint = parsed.text("entrypoint")
    return RunRequest(
        image=image,
        command=tuple(command) or None,
        entrypoint=None if entrypoint is None else (entrypoint,) if entrypoint else (),
        name=parsed.text("name"),
        env=tuple(_environment(parsed)),
        working_dir=_working_dir(parsed.text("workdir")),
        user=parsed.text("user"),
        folders=(
            *(parse_volume(text) for text in parsed.many("volume")),
            *(parse_mount(text) for text in parsed.many("mount")),
        ),
        **_networking(parsed),
        hostname=parsed.text("hostname"),
        extra_hosts=tuple(_extra_host(text) for text in parsed.many("add-host")),
        labels=tuple(_label(text) for text in parsed.many("label")),
        tty=parsed.flag("tty"),
        interactive=parsed.flag("interactive"),
        read_only=parsed.flag("read-only"),
        remove=parsed.flag("rm"),
        pull=pull,
        walls=walls.walls_of(parsed, SYNTAX),
    )


def parse_volume(text: str) -> HostFolder:
    """Return what `-v HOST:DIR[:OPTIONS]` means. Raises UsageError and NotSupported."""
    from pybuild.engine.runrequest import HostFolder

    source, *rest = text.split(":")
    if not rest:
        raise NotSupported(f"-v {text}: a volume without a folder of the host: not supported yet")
    if len(rest) > 2:
        raise usage_error(SYNTAX, f'-v: "{text}" has too many colons')
    if not source.startswith(("/", "./", "../")) and source not in (".", ".."):
        raise NotSupported(
            f"-v {text}: named volumes: not supported yet",
            hint=f"a folder of the host is written with a slash: ./{source}",
        )
    target = rest[0]
    if not target.startswith("/") or os.path.normpath(target) == "/":
        raise usage_error(SYNTAX, f'-v: "{target}" is no absolute path below /')
    options = rest[1].split(",") if len(rest) == 2 else []
    for option in options:
        # z and Z are for SELinux, which is not touched; the others are what happens anyway.
        if option not in ("ro", "rw", "z", "Z", "rprivate", "private"):
            raise NotSupported(f'-v {text}: option "{option}": not supported yet')
    return HostFolder(os.path.abspath(source), os.path.normpath(target), "ro" in options)


def parse_mount(text: str) -> HostFolder:
    """Return what `--mount type=bind,…` means. Raises UsageError and NotSupported."""
    import csv

    from pybuild.engine.runrequest import HostFolder

    fields: dict[str, str] = {}
    for item in next(csv.reader([text]), []):
        key, _, option = item.partition("=")
        fields[_MOUNT_KEYS.get(key, key)] = option
    kind = fields.pop("type", "volume")
    if kind != "bind":
        raise NotSupported(f"--mount type={kind}: not supported yet", hint="there is type=bind")
    source, target = fields.pop("source", ""), fields.pop("target", "")
    read_only = fields.pop("readonly", "false") in ("", "true", "1")
    if fields:
        raise NotSupported(f'--mount: option "{next(iter(fields))}": not supported yet')
    if not source or not target.startswith("/") or os.path.normpath(target) == "/":
        raise usage_error(SYNTAX, f'--mount: "{text}" needs a source and an absolute target')
    return HostFolder(os.path.abspath(source), os.path.normpath(target), read_only, must_exist=True)


_MOUNT_KEYS = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
}


def _environment(parsed: Parsed) -> Iterator[str]:
    for path in parsed.many("env-file"):
        yield from env_file(path)
    for word in parsed.many("env"):
        yield _variable(word, "-e")


def env_file(path: str) -> Iterator[str]:
    """Yield the variables of an env file: `K=V` or `K` a line, `#` begins a comment line."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            word = line.rstrip("\n").lstrip()
            if word and not word.startswith("#"):
                yield _variable(word, f"--env-file {path}")


def _variable(word: str, where: str) -> str:
    name, equals, _ = word.partition("=")
    if not name or any(c.isspace() for c in name):
        raise usage_error(SYNTAX, f'{where}: "{word}" is no variable')
    if equals:
        return word
    return f"{name}={os.environ[name]}" if name in os.environ else name


def _working_dir(text: str | None) -> str | None:
    if text and not text.startswith("/"):
        raise usage_error(SYNTAX, f'-w: "{text}" is no absolute path')
    return text or None  # an empty one is docker's for the image's own


def _networking(parsed: Parsed) -> _Networking:
    """Return what concerns the container's network. Raises InvalidNetwork, UsageError."""
    network = parsed.text("network") or parsed.text("net") or ""
    if network not in ("", "host", "none"):
        from runtime.network.modes import parse_mode

        network = "" if parse_mode(network).kind == "default" else network
    words, everything = parsed.many("publish"), parsed.flag("publish-all")
    if network == "host" and (words or everything):
        # Docker's words.
        print(
            "WARNING: Published ports are discarded when using host network mode", file=sys.stderr
        )
        words, everything = (), False
    return {
        "network": network,
        "ports": tuple(map(_port, words)),
        "publish_all": everything,
        "dns": tuple(map(_dns, parsed.many("dns"))),
    }


def _port(word: str) -> Published:
    from runtime.network.ports import parse_published

    return parse_published(word)


def _dns(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise usage_error(SYNTAX, f'--dns: "{text}" is no address') from error


def _extra_host(text: str) -> tuple[str, str]:
    for separator in "=:":
        name, found, address = text.partition(separator)
        if name and found and address:
            return name, address.strip("[]")
    raise usage_error(SYNTAX, f'--add-host: "{text}" is no name:address')


def _label(text: str) -> tuple[str, str]:
    key, _, label = text.partition("=")
    if not key:
        raise usage_error(SYNTAX, f'-l: "{text}" has no key')
    return key, label
