"""Vertices of the build graph: what is to be done, as plain picklable values.

A vertex is named by the digest of its definition (`Vertex.id`): its operation and the ids of its
inputs. Two instructions with the same definition are one vertex. Whether a vertex has to run is
not decided here: that needs content, see `cachekey`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NewType

from builder.errors import Place
from builder.gitref import GitRef
from builder.request import USUAL_SANDBOX, Sandbox
from grammar.ast import Policies
from store.digest import DiffID, Digest, digest_of
from values.classes import dataclass, field, fields, is_dataclass

if TYPE_CHECKING:
    from builder.runmounts import RunMount

VertexID = NewType("VertexID", str)
NO_POLICIES = Policies()


@dataclass(frozen=True, slots=True)
class BaseOp:
    """A root file system that exists: an image's layers, or none of them for scratch."""

    chain: tuple[DiffID, ...]
    created: str | None = None


@dataclass(frozen=True, slots=True)
class RunOp:
    """A process in a container on the first input's root file system.

    env: the variables that are part of the key, in order. proxy_env: those that are not, the
    predefined proxy arguments. network: none, host, or default for what the build gives its steps.
    security: sandbox, or insecure for all privileges. sandbox: what the
    build gives every container.
    """

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    network: str
    hostname: str
    platform: str
    proxy_env: tuple[tuple[str, str], ...] = ()
    security: str = "sandbox"
    mounts: "tuple[RunMount, ...]" = ()
    sandbox: Sandbox = USUAL_SANDBOX

    @property
    def keyed_network(self) -> str:
        """The network as keys have it: which way out of it a host has makes no difference."""
        return "none" if self.network == "none" else "host"


@dataclass(frozen=True, slots=True)
class ContextPath:
    """A path or pattern of a build context: of the one called `context`, "" for the main one.

    include: with --parents, the pattern below `path` of what is meant; the directories on the way
    there come along.
    """

    path: str
    include: str | None = None
    context: str = ""


@dataclass(frozen=True, slots=True)
class StagePath:
    """A path or pattern of the root file system that the vertex's input number `input` made.

    include: as in a `ContextPath`.
    """

    input: int
    path: str
    include: str | None = None


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A file whose text stands in the Dockerfile: a heredoc of COPY or ADD."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class DownloadedFile:
    """The file that the vertex's input number `input`, a `DownloadOp`, fetched.

    unpack: an archive is unpacked. name: what the file is called, None for what the address says.
    """

    input: int
    unpack: bool = False
    name: str | None = None


CopySource = ContextPath | StagePath | InlineFile | DownloadedFile


@dataclass(frozen=True, slots=True)
class CopyOp:
    """COPY or ADD into the first input's root file system.

    destination: absolute; its trailing slash counts. unpack: True to unpack local archives (ADD).
    """

    sources: tuple[CopySource, ...]
    destination: str
    chown: str | None = None
    chmod: str | None = None
    exclude: tuple[str, ...] = ()
    unpack: bool = False


@dataclass(frozen=True, slots=True)
class LinkOp:
    """COPY --link: the second input's layers, made on nothing, above the first's."""


@dataclass(frozen=True, slots=True)
class MakeDirOp:
    """WORKDIR: the directory exists afterwards, new ones with mode 0755 and owned by `user`."""

    path: str
    user: str


@dataclass(frozen=True, slots=True)
class DownloadOp:
    """ADD of a URL: fetches it; `checksum` is what its bytes must have, or None."""

    url: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class GitOp:
    """The files of a git repository, as a root file system of their own."""

    ref: GitRef


Op = BaseOp | RunOp | CopyOp | LinkOp | MakeDirOp | DownloadOp | GitOp


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a RUN in the place of an instruction would be given."""

    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""


@dataclass(frozen=True, slots=True)
class Vertex:
    """One node of the graph. `inputs[0]` is the root file system that it works on, if any.

    name: what progress shows. title: the instruction's text. stage: the stage's display name.
    step: the number of the instruction in its stage, from 1. platform: os/arch[/variant]. facts:
    what is stored beside its key to explain it, of no weight in the key. no_cache: the build asked
    for it to run again. policies: what the Dockerfile's comments ask for, see `policy`.
    surroundings: for who enters its result; of no weight in the key either.
    """

    id: VertexID
    op: Op
    inputs: tuple[VertexID, ...]
    name: str
    title: str
    stage: str
    step: int
    place: Place
    no_cache: bool = False
    platform: str = ""
    policies: Policies = NO_POLICIES
    facts: Mapping[str, object] = field(default_factory=dict, compare=False, hash=False)
    surroundings: Surroundings = field(default=Surroundings(), compare=False, hash=False)


def plain(value: object) -> object:
    """Return `value` as JSON-able data: dataclasses by class name and fields, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            "is": type(value).__name__,
            **{field.name: plain(getattr(value, field.name)) for field in fields(value)},
        }
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return value


def canonical_digest(value: object) -> Digest:
    """Return the digest of `value`'s canonical JSON: sorted keys, no blanks, ASCII only."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return digest_of(text.encode())


def vertex_id(
    op: Op,
    inputs: tuple[VertexID, ...],
    platform: str,
    *,
    no_cache: bool = False,
    policies: Policies = NO_POLICIES,
    outside: Sequence[object] = (),
) -> VertexID:
    """Return the name of the vertex with this operation and these inputs, on a platform.

    What is downloaded, and what an image is, is the same on all. One that has to run again, or has
    other policies, is not one with an equal one. outside: see `Among`.
    """
    where = "" if isinstance(op, BaseOp | DownloadOp) else platform
    parts = [op, list(inputs), where, *(["no-cache"] if no_cache else []), *outside]
    if policies != NO_POLICIES:
        parts.append(policies)
    return VertexID(canonical_digest(parts))
