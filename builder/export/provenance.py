"""`--provenance`: how an image came about, as a SLSA predicate.

Source: slsa.dev/spec/v1.0/provenance; BuildKit docs/attestations/slsa-provenance.md and
solver/llbsolver/provenance/types (which fields are of mode max).
"""

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from builder.errors import BuildError
from builder.export.attestations import Statement
from builder.request import FALSE, TRUE, BuildRequest, Place
from store.digest import Digest
from store.reference import Reference
from values.classes import dataclass

PREDICATE = "https://slsa.dev/provenance/v1"
_BUILD_TYPE = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_KEYS = ("mode", "version", "builder-id", "reproducible", "inline-only", "filename", "disabled")
_SWITCHES = ("reproducible", "inline-only", "disabled")
_MODES = ("min", "max")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a build knows of itself. bases: base images and what their names meant."""

    build_id: str
    started_ns: int
    ended_ns: int
    dockerfile: str
    dockerfile_data: bytes
    context: str
    host: str
    bases: Mapping[Reference, Digest]


def check_provenance(place: Place | None) -> None:
    """Raise BuildError for a wrong value of --provenance."""
    if place is None:
        return
    for key, value in place.options:
        if key not in _KEYS:
            raise BuildError(
                f'--provenance: unknown key "{key}"', hint=f"there is {', '.join(_KEYS)}"
            )
        if key == "mode" and value not in _MODES:
            raise BuildError(f'--provenance: invalid mode "{value}"', hint="there is min and max")
        if key == "version" and value != "v1":
            raise BuildError(f'--provenance: invalid version "{value}"', hint="there is v1")
        if key in _SWITCHES and value.lower() not in (*TRUE, *FALSE):
            raise BuildError(f'--provenance: invalid {key} "{value}"', hint="write true or false")
        if key == "filename" and (not value or "/" in value or value in (".", "..")):
            raise BuildError(
                f'--provenance: invalid filename "{value}"', hint="a name without directories"
            )


def is_wanted(request: BuildRequest) -> bool:
    """Tell whether a request asks for provenance."""
    return request.provenance is not None and not request.provenance.is_on("disabled")


def provenance_of(request: BuildRequest, facts: Facts, platform: str) -> Statement:
    """Return the provenance of an image for a platform.

    Of mode min only what says nothing about values: max adds build arguments, labels, the names of
    secrets and agents, and the Dockerfile.
    """
    assert request.provenance is not None, "is_wanted has been asked"
    is_max = request.provenance.option("mode") == "max"
    args = dict(_arguments(request)) if is_max else {}
    if request.target:
        args["target"] = request.target
    parameters: dict[str, object] = {"frontend": "dockerfile.v0", "args": args}
    if is_max:
        parameters["secrets"] = [{"id": item.id, "optional": True} for item in request.secrets]
        parameters["ssh"] = [{"id": item.id, "optional": True} for item in request.ssh]
    parameters["locals"] = [{"name": "context"}, {"name": "dockerfile"}]
    metadata: dict[str, object] = {
        "invocationId": facts.build_id,
        "startedOn": _moment(facts.started_ns),
        "finishedOn": _moment(facts.ended_ns),
        "buildkit_reproducible": request.provenance.is_on("reproducible"),
        "buildkit_completeness": {"request": is_max, "resolvedDependencies": True},
    }
    internal: dict[str, object] = {"builderPlatform": facts.host}
    if is_max:
        text = facts.dockerfile_data.decode("utf-8", "replace")
        internal["buildConfig"] = {"dockerfile": text}
    return Statement(
        PREDICATE,
        {
            "buildDefinition": {
                "buildType": _BUILD_TYPE,
                "externalParameters": {
                    "configSource": {"path": os.path.basename(facts.dockerfile)},
                    "request": parameters,
                },
                "internalParameters": internal,
                "resolvedDependencies": [
                    {
                        "uri": package_url(reference, platform),
                        "digest": {"sha256": digest.removeprefix("sha256:")},
                    }
                    for reference, digest in sorted(facts.bases.items(), key=str)
                ],
            },
            "runDetails": {
                "builder": {"id": request.provenance.option("builder-id") or ""},
                "metadata": metadata,
            },
        },
        request.provenance.option("filename") or "provenance.json",
    )


def package_url(reference: Reference, platform: str) -> str:
    """Return an image's name as a package URL: pkg:docker/debian@12?platform=linux%2Famd64."""
    version = f"@{reference.tag or reference.digest}"
    quoted = platform.replace("/", "%2F")
    return f"pkg:docker/{reference.familiar_name}{version}?platform={quoted}"


def _arguments(request: BuildRequest) -> Iterator[tuple[str, str]]:
    for name, value in request.build_args:
        yield f"build-arg:{name}", value
    for name, value in request.labels:
        yield f"label:{name}", value
    if request.no_cache:
        yield "no-cache", ""
    for name, where in request.contexts:
        yield f"context:{name}", where


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat().replace("+00:00", "Z")
