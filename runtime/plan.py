"""What crosses to the launcher by marshal: plain values, every decision made. Types only.

Made of dicts, lists, tuples, strings, bytes and numbers. Nothing that launches imports this module
when it runs: `typing` takes longer than a container.
"""

from typing import Literal, TypedDict


class RootPlan(TypedDict):
    """A root file system: lower directories below `base`, topmost first, under `upper`.

    flags: options of overlay without a value.
    """

    base: str
    lowers: list[str]
    upper: str | None
    work: str | None
    flags: list[str]
    read_only: bool
    no_devices: bool


# Lines of uid_map and gid_map.
IdMapPlan = tuple[str, str]


class MountPlan(TypedDict):
    """One mount. Which fields count depends on `kind`.

    new: a file system of `type`. bind: host path `source`. overlay: path `source` inside
    `overlay`. file: a file of content `data` and `owner` (mode, uid, gid). cgroup: the container's
    own cgroups. fd: where the launcher keeps a source that it opened.
    attributes, clear: of the mount; below: the same of all mounts in it as well.
    copy_up: a tmpfs starts with what it covers. remount: changes the attributes of what is there.
    """

    kind: Literal["new", "bind", "overlay", "file", "cgroup"]
    target: str
    type: str
    source: str
    options: list[tuple[str, str | None]]
    attributes: int
    clear: int
    recursive: bool
    propagation: int
    below: tuple[int, int]
    copy_up: bool
    id_map: IdMapPlan | None
    id_map_recursive: bool
    remount: bool
    data: bytes
    owner: tuple[int, int, int]
    fd: int
    overlay: RootPlan | None


# path below the root, file type, device number, mode, uid, gid
DevicePlan = tuple[str, int, int, int, int, int]


class CapabilityPlan(TypedDict):
    """The five sets as bits."""

    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int


class CgroupPlan(TypedDict):
    """One leaf: (file, value) for v2, (controller, file, value) for v1.

    required: a host where they cannot be made is an error.
    parent: absolute in each tree; without a leading slash, below our own cgroup.
    kept: in every tree that is mounted, and there until somebody removes them.
    owner: uid that may make cgroups in the v2 leaf, -1: ours alone.
    """

    parent: str
    name: str
    required: bool
    kept: bool
    owner: int
    v2: list[tuple[str, str]]
    v1: list[tuple[str, str, str]]
    unified: list[tuple[str, str]]
    device_program: bytes
    v1_devices: list[tuple[str, str]]


class RdtPlan(TypedDict):
    """A group of resctrl, a group in it that counts, and which of them have to be made."""

    group: str
    monitor: str
    schemata: list[str]
    made: list[str]


# path, arguments, environment (None: who runs it passes on a default), timeout in seconds (0: none)
HookPlan = tuple[str, list[str], list[str] | None, int]


class SeccompPlan(TypedDict):
    """How a filter is loaded: flags of seccomp(2), and who gets the notifications of it."""

    flags: int
    listener: str
    metadata: str


class ProcessPlan(TypedDict):
    """A process in a container, its first or one that enters.

    user: as USER writes it; empty: `account` (uid, gid, groups) says it in numbers.
    strict: limits that the host refuses are errors.
    trampoline: descriptor of the program that becomes the command for us, -1: we do it ourselves.
    keep_fds: so many descriptors after stdio are the command's.
    memory_policy: mode and flags of set_mempolicy(2), nodes as bits.
    emulating_filter: with whose notifications a supervisor emulates owners and ids, in the place of
    `seccomp`; empty: the kernel's own.
    """

    keep_fds: int
    trampoline: int
    tty: bool
    tty_socket: int
    window: tuple[int, int]
    user: str
    account: tuple[int, int, list[int]]
    additional_groups: list[int | str]
    umask: int
    limits: list[tuple[int, int, int]]
    strict: bool
    cwd: str
    create_cwd: bool
    own_cwd: bool
    args: list[str]
    env: list[str]
    capabilities: CapabilityPlan
    no_new_privileges: bool
    oom_score_adj: int | None
    scheduler: tuple[int, int, int, int, int, int, int] | None
    io_priority: int | None
    memory_policy: tuple[int, int] | None
    affinity: tuple[list[int], list[int]]
    security_label: tuple[str, str]
    emulating_filter: bytes
    seccomp: bytes
    seccomp_load: SeccompPlan


class JoinPlan(ProcessPlan):
    """A process that enters a container that runs.

    caller: our pid. init: pid and start time of the container's first process. cgroups: controller
    to folder of the container's.
    """

    caller: int
    init: tuple[int, int]
    cgroups: dict[str, str]


class NetworkPlan(TypedDict):
    """A network namespace and the helper that is its way out.

    caller: our pid. tries: words after the program's name, "" where the namespace's path belongs; a
    later one is for an older program. goes_to_background: when it works; else it writes to
    descriptor 3. requests: what to ask of its API at `api` in `scratch`, and for which port.
    """

    caller: int
    program: str
    tries: list[list[str]]
    env: dict[str, str]
    goes_to_background: bool
    sysctl: list[tuple[str, str]]
    scratch: str
    requests: list[tuple[str, str]]


class LaunchPlan(ProcessPlan):
    """Everything the launcher has to know.

    net_devices: of the host's network, and what they are called in the container's.

    chroot: there are neither namespaces nor mounts. shares_processes: there is no pid namespace,
    and what is left of the container is found as the launcher's children.
    """

    caller: int
    anchor: str
    join: list[tuple[str, int]]
    id_map: IdMapPlan | None
    time_offsets: str
    root_propagation: int
    bind_devices: bool
    personality: int | None
    root: RootPlan
    namespaces: int
    late_namespaces: int
    cgroup: CgroupPlan
    cgroup_view: list[tuple[str, str, int | str]]
    mounts: list[MountPlan]
    devices: list[DevicePlan]
    device_trees: list[int]
    no_pivot: bool
    chroot: bool
    shares_processes: bool
    links: list[tuple[str, str]]
    masked: list[str]
    read_only_paths: list[str]
    hostname: str
    domainname: str
    loopback_up: bool
    rdt: RdtPlan | None
    net_devices: list[tuple[str, str]]
    sysctl: list[tuple[str, str]]
    hooks: dict[str, list[HookPlan]]
    state: dict[str, object]
    start: int
    new_keyring: bool
    detached: bool
