"""The runtime-spec's config.json, as typed dictionaries.

Field names and meaning are those of the OCI runtime specification 1.1 (config.md,
config-linux.md); only the fields that we write or obey are listed.
"""

import json
from typing import Literal, NotRequired, TypedDict, cast

NamespaceType = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]


class Root(TypedDict):
    """The container's root file system."""

    path: str
    readonly: NotRequired[bool]


class Mount(TypedDict):
    """One mount, in the order of mounting."""

    destination: str
    type: NotRequired[str]
    source: NotRequired[str]
    options: NotRequired[list[str]]


class User(TypedDict):
    """Who the process runs as, in numbers."""

    uid: int
    gid: int
    umask: NotRequired[int]
    additionalGids: NotRequired[list[int]]


class CapabilitySets(TypedDict, total=False):
    """Capability names of each of the process's five sets."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    """One resource limit."""

    type: str
    soft: int
    hard: int


class ConsoleSize(TypedDict):
    """Size of the terminal in characters."""

    height: int
    width: int


class Process(TypedDict):
    """The container's process."""

    args: list[str]
    cwd: str
    user: User
    terminal: NotRequired[bool]
    consoleSize: NotRequired[ConsoleSize]
    env: NotRequired[list[str]]
    capabilities: NotRequired[CapabilitySets]
    rlimits: NotRequired[list[Rlimit]]
    noNewPrivileges: NotRequired[bool]
    oomScoreAdj: NotRequired[int]


class Namespace(TypedDict):
    """A namespace to make, or to join where `path` is given."""

    type: NamespaceType
    path: NotRequired[str]


class Device(TypedDict):
    """A device node to make."""

    path: str
    type: str
    major: NotRequired[int]
    minor: NotRequired[int]
    fileMode: NotRequired[int]
    uid: NotRequired[int]
    gid: NotRequired[int]


class DeviceRule(TypedDict):
    """A device cgroup rule; absent numbers mean any."""

    allow: bool
    type: NotRequired[str]
    major: NotRequired[int]
    minor: NotRequired[int]
    access: NotRequired[str]


class Memory(TypedDict, total=False):
    """Memory limits in bytes; -1 is none."""

    limit: int
    reservation: int
    swap: int
    swappiness: int
    disableOOMKiller: bool


class Cpu(TypedDict, total=False):
    """CPU limits; quota and period in microseconds."""

    shares: int
    quota: int
    period: int
    cpus: str
    mems: str


class Pids(TypedDict):
    """The number of tasks; 0 or less is no limit."""

    limit: int


class Resources(TypedDict, total=False):
    """What the container's cgroup limits."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: Cpu
    pids: Pids
    unified: dict[str, str]


class Linux(TypedDict, total=False):
    """The platform's own part."""

    namespaces: list[Namespace]
    devices: list[Device]
    cgroupsPath: str
    resources: Resources
    seccomp: dict[str, object]
    rootfsPropagation: str
    maskedPaths: list[str]
    readonlyPaths: list[str]
    sysctl: dict[str, str]


class Spec(TypedDict):
    """A config.json."""

    ociVersion: str
    root: Root
    process: Process
    hostname: NotRequired[str]
    domainname: NotRequired[str]
    mounts: NotRequired[list[Mount]]
    annotations: NotRequired[dict[str, str]]
    linux: NotRequired[Linux]


def to_json(spec: Spec) -> bytes:
    """Return `spec` as the bytes of a config.json."""
    return json.dumps(spec, indent=1).encode()


def from_json(data: bytes) -> Spec:
    """Return the config.json `data`; ValueError when it is no JSON object."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("config.json: not an object")  # noqa: TRY004 - bad data, not a bad type
    return cast(Spec, value)
