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


class IdMapping(TypedDict):
    """`size` ids from `containerID` on are the host's from `hostID` on."""

    containerID: int
    hostID: int
    size: int


class Mount(TypedDict):
    """One mount, in the order of mounting; the mappings are those of an idmapped one."""

    destination: str
    type: NotRequired[str]
    source: NotRequired[str]
    options: NotRequired[list[str]]
    uidMappings: NotRequired[list[IdMapping]]
    gidMappings: NotRequired[list[IdMapping]]


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


class Scheduler(TypedDict):
    """Scheduling policy, as sched_setattr(2) takes it; times in nanoseconds."""

    policy: str
    nice: NotRequired[int]
    priority: NotRequired[int]
    flags: NotRequired[list[str]]
    runtime: NotRequired[int]
    deadline: NotRequired[int]
    period: NotRequired[int]


# "class" is a word of Python's.
IoPriority = TypedDict("IoPriority", {"class": str, "priority": NotRequired[int]})


class ExecCpuAffinity(TypedDict, total=False):
    """Lists of CPUs for processes that enter: before and after the move into the cgroup."""

    initial: str
    final: str


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
    scheduler: NotRequired[Scheduler]
    ioPriority: NotRequired[IoPriority]
    execCPUAffinity: NotRequired[ExecCpuAffinity]
    apparmorProfile: NotRequired[str]
    selinuxLabel: NotRequired[str]


class Hook(TypedDict):
    """A program that is run at a moment of the container's life; timeout in seconds."""

    path: str
    args: NotRequired[list[str]]
    env: NotRequired[list[str]]
    timeout: NotRequired[int]


class Hooks(TypedDict, total=False):
    """What to run when; see config.md, "POSIX-platform Hooks"."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


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
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class Cpu(TypedDict, total=False):
    """CPU limits; quota, burst and period in microseconds."""

    shares: int
    quota: int
    burst: int
    period: int
    realtimeRuntime: int
    realtimePeriod: int
    cpus: str
    mems: str
    idle: int


class Pids(TypedDict):
    """The number of tasks; 0 or less is no limit."""

    limit: int


class WeightDevice(TypedDict):
    """Weight of a block device."""

    major: int
    minor: int
    weight: NotRequired[int]
    leafWeight: NotRequired[int]


class ThrottleDevice(TypedDict):
    """Bytes or operations a second of a block device."""

    major: int
    minor: int
    rate: int


class BlockIo(TypedDict, total=False):
    """Limits of block devices."""

    weight: int
    leafWeight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict):
    """Bytes of huge pages of one size, as 2MB."""

    pageSize: str
    limit: int


class InterfacePriority(TypedDict):
    """Priority of the traffic through one interface."""

    name: str
    priority: int


class Network(TypedDict, total=False):
    """Marks of the container's traffic; cgroup v1 only."""

    classID: int
    priorities: list[InterfacePriority]


class Rdma(TypedDict, total=False):
    """Handles and objects of one RDMA device."""

    hcaHandles: int
    hcaObjects: int


class Resources(TypedDict, total=False):
    """What the container's cgroup limits."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: Cpu
    pids: Pids
    blockIO: BlockIo
    hugepageLimits: list[HugepageLimit]
    network: Network
    rdma: dict[str, Rdma]
    unified: dict[str, str]


class Personality(TypedDict):
    """Execution domain: LINUX or LINUX32."""

    domain: str
    flags: NotRequired[list[str]]


class TimeOffset(TypedDict, total=False):
    """What a time namespace adds to a clock."""

    secs: int
    nanosecs: int


class IntelRdt(TypedDict, total=False):
    """A group of resctrl; each of the schemata is a line of its file of that name."""

    closID: str
    schemata: list[str]
    l3CacheSchema: str
    memBwSchema: str
    enableMonitoring: bool
    enableCMT: bool
    enableMBM: bool


class MemoryPolicy(TypedDict):
    """A NUMA policy, as set_mempolicy(2) takes it; nodes as `0-3,7`."""

    mode: str
    nodes: NotRequired[str]
    flags: NotRequired[list[str]]


class NetDevice(TypedDict, total=False):
    """How a network device of the host is called in the container; as before without a name."""

    name: str


class Linux(TypedDict, total=False):
    """The platform's own part."""

    namespaces: list[Namespace]
    uidMappings: list[IdMapping]
    gidMappings: list[IdMapping]
    timeOffsets: dict[str, TimeOffset]
    devices: list[Device]
    cgroupsPath: str
    resources: Resources
    seccomp: dict[str, object]
    rootfsPropagation: str
    maskedPaths: list[str]
    readonlyPaths: list[str]
    sysctl: dict[str, str]
    mountLabel: str
    personality: Personality
    intelRdt: IntelRdt
    memoryPolicy: MemoryPolicy
    netDevices: dict[str, NetDevice]


class Spec(TypedDict):
    """A config.json."""

    ociVersion: str
    root: Root
    process: Process
    hostname: NotRequired[str]
    domainname: NotRequired[str]
    mounts: NotRequired[list[Mount]]
    hooks: NotRequired[Hooks]
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
