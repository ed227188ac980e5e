"""Targets to requests: what `build` would be asked for each. Source: bake.go, toBuildOpt."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.request import (
    LOCAL_DELETE,
    BuildRequest,
    CachePlace,
    Output,
    Place,
    Sandbox,
    SecretSource,
    SshSource,
)
from pybuild.bake.entries import Entry
from pybuild.bake.printing import context_of
from pybuild.bake.target import Target
from pybuild.cli.buildvalues import (
    ENTITLEMENTS,
    parse_add_host,
    parse_annotation,
    parse_network,
    parse_size,
    parse_ulimit,
)
from pybuild.errors import BakeError, UsageError
from values.classes import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

_OF_RUN = tuple(name for name in ENTITLEMENTS if name != LOCAL_DELETE)
_EPOCH = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line gives all targets.

    allow: entitlements that targets may have.
    """

    allow: tuple[str, ...] = ()
    tls_verify: bool = True
    ca_files: tuple[str, ...] = ()


def requests_of(targets: Mapping[str, Target], given: Given) -> dict[str, BuildRequest]:
    """Return the request of each target. Raises BakeError with the target's name."""
    made = {}
    for name, target in targets.items():
        try:
            made[name] = request_of(target, given)
        except UsageError as error:
            message = str(error).removeprefix("build: ").removeprefix("--")
            raise BakeError(f"target {name}: {message}", hint=error.hint) from error
    return made


def request_of(target: Target, given: Given) -> BuildRequest:
    """Return the request of a target. Raises BakeError, UsageError."""
    context = context_of(target)
    if context == "-":
        raise BakeError(f"target {target.name}: context from stdin not allowed in bake")
    inline = target.values.get("dockerfile-inline")
    _check_entitlements(target, given)
    attests = {str(entry["type"]): entry for entry in target.entries("attest")}
    return BuildRequest(
        context=context,
        contexts=tuple(_contexts(target)),
        dockerfile="-" if inline is not None else _dockerfile(target, context),
        dockerfile_text=inline.encode() if isinstance(inline, str) else None,
        tags=tuple(target.texts("tags")),
        build_args=tuple(_arguments(target).items()),
        labels=tuple(target.by_name("labels").items()),
        target=target.text("target") or None,
        no_cache=target.is_on("no-cache"),
        no_cache_stages=tuple(target.texts("no-cache-filter")),
        platform=",".join(target.texts("platforms"))
        or os.environ.get("DOCKER_DEFAULT_PLATFORM")
        or None,
        outputs=tuple(Output(*_place(entry)) for entry in target.entries("output")),
        secrets=tuple(map(_secret, target.entries("secret"))),
        ssh=tuple(map(_ssh, target.entries("ssh"))),
        allow=(*target.texts("entitlements"), *(LOCAL_DELETE,) * (LOCAL_DELETE in given.allow)),
        network=parse_network(target.text("network") or None),
        sandbox=Sandbox(
            extra_hosts=tuple(
                parse_add_host(f"{name}={where}")
                for name, where in target.by_name("extra-hosts").items()
            ),
            shm_bytes=parse_size("shm-size", target.text("shm-size") or None),
            ulimits=tuple({u.name: u for u in map(parse_ulimit, target.texts("ulimits"))}.values()),
        ),
        annotations=tuple(map(parse_annotation, target.texts("annotations"))),
        cache_from=tuple(CachePlace(*_place(entry)) for entry in target.entries("cache-from")),
        cache_to=tuple(CachePlace(*_place(entry)) for entry in target.entries("cache-to")),
        provenance=_attestation(attests.get("provenance")),
        sbom=_attestation(attests.get("sbom")),
        pull=target.is_on("pull"),
        tls_verify=given.tls_verify,
        ca_files=given.ca_files,
    )


def _check_entitlements(target: Target, given: Given) -> None:
    """Refuse what the command line does not allow. Raises BakeError."""
    for wanted in target.texts("entitlements"):
        if wanted not in _OF_RUN:
            raise BakeError(
                f'target {target.name}: unknown entitlement "{wanted}"',
                hint=f"there is {' and '.join(_OF_RUN)}",
            )
        if wanted not in given.allow:
            raise BakeError(
                f"target {target.name}: it wants {wanted}, which is not allowed",
                hint=f"give --allow {wanted} if you trust the bake file",
            )


def _dockerfile(target: Target, context: str) -> str:
    """Return the Dockerfile as a request names it: paths in files are relative to the context."""
    named = target.text("dockerfile") or "Dockerfile"
    if named == "-":
        raise BakeError(f"target {target.name}: dockerfile from stdin not allowed in bake")
    if named.startswith("cwd://"):
        return os.path.abspath(named.removeprefix("cwd://"))
    if "://" in named or os.path.isabs(named) or not os.path.isdir(context):
        return named
    return os.path.join(context, named)


def _contexts(target: Target) -> Iterable[tuple[str, str]]:
    for name, where in target.by_name("contexts").items():
        yield name, where.removeprefix("cwd://") or "."


def _arguments(target: Target) -> dict[str, str]:
    found = target.by_name("args")
    epoch = os.environ.get(_EPOCH)
    return {_EPOCH: epoch, **found} if epoch and _EPOCH not in found else found


def _place(entry: Entry) -> tuple[str, tuple[tuple[str, str], ...]]:
    options = ((key, str(value)) for key, value in entry.items() if key != "type")
    return str(entry["type"]), tuple(options)


def _secret(entry: Entry) -> SecretSource:
    path, variable = entry.get("src"), entry.get("env")
    return SecretSource(
        str(entry["id"]),
        path=str(path) if path else None,
        variable=str(variable) if variable and not path else None,
    )


def _ssh(entry: Entry) -> SshSource:
    paths = entry.get("paths")
    return SshSource(str(entry["id"]), tuple(map(str, paths)) if isinstance(paths, list) else ())


def _attestation(entry: Entry | None) -> Place | None:
    """Return what is attested; nothing where it is disabled."""
    if entry is None or entry.get("disabled"):
        return None
    return Place(*_place(entry))
