"""What a build is asked to do, as one value, and what it made."""

from __future__ import annotations

from values.classes import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from store.digest import Digest
    from store.reference import Reference


@dataclass(frozen=True, slots=True)
class Place:
    """Where something goes or comes from, `type=…,key=value`: its other keys in order."""

    type: str
    options: tuple[tuple[str, str], ...] = ()

    def option(self, key: str) -> str | None:
        """Return the last value given for `key`, or None."""
        return next((value for name, value in reversed(self.options) if name == key), None)

    def is_on(self, key: str, *, default: bool = False) -> bool:
        """Tell whether a switch is on; a key without a value is."""
        value = self.option(key)
        return default if value is None else value.lower() in TRUE


LOCAL_DELETE = "buildx.local.delete"  # the entitlement to clear any folder
TRUE = ("1", "t", "true", "")
FALSE = ("0", "f", "false")


@dataclass(frozen=True, slots=True)
class CachePlace(Place):
    """One `--cache-from` or `--cache-to`: `type` is registry, local, inline or s3."""


@dataclass(frozen=True, slots=True)
class Output(Place):
    """One `--output`: `type` is image, oci, …"""

    @property
    def is_pushed(self) -> bool:
        """Tell whether it goes to the registries that its names say."""
        return self.type == "registry" or (self.type == "image" and self.is_on("push"))

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the output itself gives the image, besides those of the build."""
        named = self.option("name") if self.type in ("image", "registry") else None
        return tuple(name.strip() for name in named.split(",")) if named else ()


@dataclass(frozen=True, slots=True)
class SecretSource:
    """One `--secret`: where the value of secret `id` is read from when a step needs it.

    A file, an environment variable, or neither: then the variable called `id` or, where there is
    none, the file called so. The value itself is nowhere in a request.
    """

    id: str
    path: str | None = None
    variable: str | None = None


@dataclass(frozen=True, slots=True)
class SshSource:
    """One `--ssh`: an agent's socket, or files with private keys; none means SSH_AUTH_SOCK."""

    id: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A limit of a process: name (`nofile`), soft and hard value; -1 is none."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What every RUN's container gets: `--add-host`, `--shm-size`, `--ulimit`, `--cgroup-parent`.

    extra_hosts: (name, address) pairs; the address may be `host-gateway`. shm_bytes: size of
    /dev/shm, None for the usual one. cgroup_parent: is no part of a cache key, the others are.
    env: variables for what the image does not set: `repro`'s changed conditions. isolation: the
    wall that is wanted, empty for the best.
    """

    extra_hosts: tuple[tuple[str, str], ...] = ()
    shm_bytes: int | None = None
    ulimits: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""
    env: tuple[tuple[str, str], ...] = ()
    isolation: str = ""


USUAL_SANDBOX = Sandbox()
ALL = "*"


@dataclass(frozen=True, slots=True)
class Budget:
    """What a build may come to: `--budget`; None is no limit.

    image_bytes: of the files of an image's layers. step_s: of a step that ran. total_s: of the
    build until its outputs are written.
    """

    image_bytes: int | None = None
    step_s: float | None = None
    total_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """A build.

    context: a directory, the address of a git repository, an archive or a Dockerfile, or `-` for
    what `context_stream` gives, an archive or a Dockerfile too. dockerfile: a path relative to the
    working directory or the context, an address, `-` for the text in `dockerfile_text`, None for
    `Dockerfile` in the context. contexts: names of further contexts and where they are.
    build_args, labels: in the order given; a later one of the same name wins.
    no_cache, no_cache_stages: run every step, or every step of these stages, again.
    jobs: how many steps may run at once; None means the number of processors.
    secrets, ssh: what `RUN --mount` of these types can get. allow: entitlements, of
    `network.host`, `security.insecure` and LOCAL_DELETE. network: what a RUN without --network
    gets. sandbox: what RUN's containers get. annotations: keys, still with their
    `type[platform]:`, and values. stage_tags: stages and the names of their images. also: further
    stages to be built.
    provenance, sbom: what is attested of how the images came about and of the packages in them,
    None for nothing.
    cache_from, cache_to: where records of the cache are looked up, in order, and put.
    allow_secret_leak: ids of secrets that may become a part of the image, ALL for all of them.
    budget: what the build may come to before its outputs are written. keep_failed: what a step
    that fails leaves is kept, to be entered.
    locked: take the sources of the lock and no others. lock_file: the lock, None for the one beside
    the Dockerfile.
    pull: ask the registry for base images that are here too. tls_verify, ca_files: what registries
    have to prove (see registry_client.trust.Trust).
    """

    context: str
    dockerfile: str | None = None
    dockerfile_text: bytes | None = None
    context_stream: BinaryIO | None = None
    contexts: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    build_args: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    target: str | None = None
    no_cache: bool = False
    no_cache_stages: tuple[str, ...] = ()
    platform: str | None = None
    outputs: tuple[Output, ...] = ()
    jobs: int | None = None
    secrets: tuple[SecretSource, ...] = ()
    ssh: tuple[SshSource, ...] = ()
    allow_secret_leak: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    network: str = "default"
    sandbox: Sandbox = USUAL_SANDBOX
    annotations: tuple[tuple[str, str], ...] = ()
    stage_tags: tuple[tuple[str, str], ...] = ()
    also: tuple[str, ...] = ()
    provenance: Place | None = None
    sbom: Place | None = None
    cache_from: tuple[CachePlace, ...] = ()
    cache_to: tuple[CachePlace, ...] = ()
    pull: bool = False
    tls_verify: bool = True
    ca_files: tuple[str, ...] = ()
    budget: Budget | None = None
    keep_failed: bool = True
    locked: bool = False
    lock_file: str | None = None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished build.

    image_id: None when no image was asked for (`cacheonly`, `local`, `tar`). used_stdout: an
    output went there, so nothing else may. metadata: what `--metadata-file` says.
    """

    build_id: str
    image_id: Digest | None
    references: tuple[Reference, ...]
    used_stdout: bool = False
    metadata: Mapping[str, object] = field(default_factory=dict)
