"""The shape of a config.json: every field of the runtime-spec for Linux, and what it may hold.

A table, not code: `validate` walks it. A kind is a tuple whose first word says how the rest reads:
("text",) ("path",) ("bool",) ("number", least, most) ("word", allowed) ("list", kind)
("map", kind) ("numbers", what) ("object", fields); a field whose name ends in `!` must be there.
"""

from runtime.linux.capabilities import NUMBERS
from runtime.planning import HOOK_MOMENTS
from runtime.process import (
    IO_CLASSES,
    MEMORY_FLAGS,
    MEMORY_MODES,
    RLIMITS,
    SCHED_FLAGS,
    SCHED_POLICIES,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Kind = tuple[Any, ...]

_MAJOR, _MINOR = 2**12 - 1, 2**20 - 1  # of a device's number
_U32, _I64, _U64 = 2**32 - 1, 2**63 - 1, 2**64 - 1
TEXT: "Kind" = ("text",)
PATH: "Kind" = ("path",)
BOOL: "Kind" = ("bool",)
INT: "Kind" = ("number", -(2**63), _I64)
UINT: "Kind" = ("number", 0, _U64)
ID: "Kind" = ("number", 0, _U32 - 1)  # to the system calls 2^32-1 is "leave it": root, it would be
TEXTS: "Kind" = ("list", TEXT)


def _object(**fields: "Kind") -> "Kind":
    """Return an object's kind; a trailing underscore stands for the `!` of a required field."""
    renamed = {
        f"{name[:-1]}!" if name.endswith("_") else name: kind for name, kind in fields.items()
    }
    return ("object", renamed)


_MAPPINGS: "Kind" = ("list", _object(containerID_=ID, hostID_=ID, size_=("number", 1, _U32)))
_CAPABILITIES: "Kind" = ("list", ("capability",))
ALL_CAPABILITIES = NUMBERS
CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")

PROCESS = _object(
    terminal=BOOL,
    consoleSize=_object(height_=("number", 0, 65535), width_=("number", 0, 65535)),
    cwd_=PATH,
    env=TEXTS,
    args_=TEXTS,
    user=_object(uid=ID, gid=ID, umask=("number", 0, 0o777), additionalGids=("list", ID)),
    capabilities=_object(**dict.fromkeys(CAPABILITY_SETS, _CAPABILITIES)),
    rlimits=(
        "list",
        _object(type_=("word", [f"RLIMIT_{name}" for name in RLIMITS]), soft_=UINT, hard_=UINT),
    ),
    noNewPrivileges=BOOL,
    oomScoreAdj=("number", -1000, 1000),
    scheduler=_object(
        policy_=("word", SCHED_POLICIES),
        nice=("number", -20, 19),
        priority=("number", 0, 99),
        flags=("list", ("word", SCHED_FLAGS)),
        runtime=UINT,
        deadline=UINT,
        period=UINT,
    ),
    ioPriority=("object", {"class!": ("word", IO_CLASSES), "priority": ("number", 0, 7)}),
    execCPUAffinity=_object(initial=("numbers", "CPUs"), final=("numbers", "CPUs")),
    apparmorProfile=TEXT,
    selinuxLabel=TEXT,
)
_HOOKS: "Kind" = (
    "list",
    _object(path_=PATH, args=TEXTS, env=TEXTS, timeout=("number", 1, _I64)),
)
_DEVICE = _object(
    path_=PATH,
    type_=("word", "cbup"),
    major=("number", 0, _MAJOR),
    minor=("number", 0, _MINOR),
    fileMode=("number", 0, 0o177777),
    uid=ID,
    gid=ID,
)
_NUMBERS = {"major_": ("number", 0, _MAJOR), "minor_": ("number", 0, _MINOR)}
_THROTTLE: "Kind" = ("list", _object(**_NUMBERS, rate_=UINT))
_WEIGHT: "Kind" = ("number", 0, 1000)
RESOURCES = _object(
    devices=(
        "list",
        _object(
            allow_=BOOL,
            type=("word", "abc"),
            major=("number", -1, _MAJOR),
            minor=("number", -1, _MINOR),
            access=("letters", "rwm"),
        ),
    ),
    memory=_object(
        limit=INT,
        reservation=INT,
        swap=INT,
        kernel=INT,
        kernelTCP=INT,
        swappiness=("number", 0, 100),
        disableOOMKiller=BOOL,
        useHierarchy=BOOL,
        checkBeforeUpdate=BOOL,
    ),
    cpu=_object(
        shares=UINT,
        quota=INT,
        burst=UINT,
        period=UINT,
        realtimeRuntime=INT,
        realtimePeriod=UINT,
        cpus=TEXT,
        mems=TEXT,
        idle=("number", 0, 1),
    ),
    pids=_object(limit_=INT),
    blockIO=_object(
        weight=_WEIGHT,
        leafWeight=_WEIGHT,
        weightDevice=(
            "list",
            _object(**_NUMBERS, weight=_WEIGHT, leafWeight=_WEIGHT),
        ),
        throttleReadBpsDevice=_THROTTLE,
        throttleWriteBpsDevice=_THROTTLE,
        throttleReadIOPSDevice=_THROTTLE,
        throttleWriteIOPSDevice=_THROTTLE,
    ),
    hugepageLimits=("list", _object(pageSize_=("page size",), limit_=UINT)),
    network=_object(classID=ID, priorities=("list", _object(name_=TEXT, priority_=ID))),
    rdma=("map", _object(hcaHandles=ID, hcaObjects=ID)),
    unified=("map", TEXT),
)
SECCOMP_ACTIONS = (
    *("SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"),
    *("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY"),
)
SECCOMP_OPERATORS = [f"SCMP_CMP_{op}" for op in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")]
SECCOMP_FLAGS = [
    f"SECCOMP_FILTER_FLAG_{f}" for f in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV")
]
_SECCOMP = _object(
    defaultAction_=("word", SECCOMP_ACTIONS),
    defaultErrnoRet=("number", 0, 4095),
    architectures=TEXTS,
    flags=("list", ("word", SECCOMP_FLAGS)),
    listenerPath=TEXT,
    listenerMetadata=TEXT,
    syscalls=(
        "list",
        _object(
            names_=TEXTS,
            action_=("word", SECCOMP_ACTIONS),
            errnoRet=("number", 0, 4095),
            args=(
                "list",
                _object(
                    index_=("number", 0, 5),
                    value_=UINT,
                    valueTwo=UINT,
                    op_=("word", SECCOMP_OPERATORS),
                ),
            ),
        ),
    ),
)
_PROPAGATIONS = ("shared", "slave", "private", "unbindable")
NAMESPACE_TYPES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
CONFIG = _object(
    ociVersion_=("version",),
    root_=_object(path_=TEXT, readonly=BOOL),
    process_=PROCESS,
    hostname=TEXT,
    domainname=TEXT,
    mounts=(
        "list",
        _object(
            destination_=TEXT,
            type=TEXT,
            source=TEXT,
            options=TEXTS,
            uidMappings=_MAPPINGS,
            gidMappings=_MAPPINGS,
        ),
    ),
    hooks=("object", dict.fromkeys(HOOK_MOMENTS, _HOOKS)),
    annotations=("map", TEXT),
    linux=_object(
        namespaces=("list", _object(type_=("word", NAMESPACE_TYPES), path=PATH)),
        uidMappings=_MAPPINGS,
        gidMappings=_MAPPINGS,
        timeOffsets=("map", _object(secs=INT, nanosecs=("number", 0, 999_999_999))),
        devices=("list", _DEVICE),
        cgroupsPath=TEXT,
        resources=RESOURCES,
        seccomp=_SECCOMP,
        rootfsPropagation=(
            "word",
            ("", *_PROPAGATIONS, *(f"r{word}" for word in _PROPAGATIONS)),
        ),
        maskedPaths=("list", PATH),
        readonlyPaths=("list", PATH),
        sysctl=("map", TEXT),
        mountLabel=TEXT,
        personality=_object(domain_=("word", ("LINUX", "LINUX32")), flags=TEXTS),
        intelRdt=_object(
            closID=TEXT,
            schemata=TEXTS,
            l3CacheSchema=TEXT,
            memBwSchema=TEXT,
            enableMonitoring=BOOL,
            enableCMT=BOOL,
            enableMBM=BOOL,
        ),
        netDevices=("map", _object(name=TEXT)),
        memoryPolicy=_object(
            mode_=("word", MEMORY_MODES),
            nodes=("numbers", "nodes"),
            flags=("list", ("word", MEMORY_FLAGS)),
        ),
    ),
    vm=("refused", "virtual machines: not supported"),
)
