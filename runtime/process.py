"""The `process` of a config.json as the launcher takes it: who it is and what it may. Pure."""

from runtime.errors import InvalidSpec
from runtime.linux import capabilities as caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import CapabilityPlan, ProcessPlan
    from runtime.spec import (
        CapabilitySets,
        ExecCpuAffinity,
        IoPriority,
        MemoryPolicy,
        Process,
        Rlimit,
        Scheduler,
    )

# In resource.h's order: a name's index is its number.
RLIMITS = (
    *("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS"),
    *("LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"),
)
SCHED_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_IO_CLASS_SHIFT = 13
# Source: include/uapi/linux/mempolicy.h.
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}


def _capabilities(sets: "CapabilitySets") -> "CapabilityPlan":
    try:
        return {
            "bounding": caps.mask(sets.get("bounding", [])),
            "effective": caps.mask(sets.get("effective", [])),
            "permitted": caps.mask(sets.get("permitted", [])),
            "inheritable": caps.mask(sets.get("inheritable", [])),
            # The kernel lets no other be ambient.
            "ambient": caps.mask(sets.get("ambient", []))
            & caps.mask(sets.get("permitted", []))
            & caps.mask(sets.get("inheritable", [])),
        }
    except KeyError as error:
        raise InvalidSpec(f"capabilities: unknown capability {error.args[0]}") from error


def _limit(limit: "Rlimit") -> "tuple[int, int, int]":
    try:
        number = RLIMITS.index(limit["type"].removeprefix("RLIMIT_"))
    except ValueError:
        raise InvalidSpec(f"rlimits: unknown limit {limit['type']}") from None
    return number, limit["soft"], limit["hard"]


def _scheduler(wanted: "Scheduler | None") -> "tuple[int, int, int, int, int, int, int] | None":
    """Return policy, flags, nice, priority, runtime, deadline, period."""
    if wanted is None:
        return None
    return (
        SCHED_POLICIES[wanted["policy"]],
        sum(SCHED_FLAGS[flag] for flag in set(wanted.get("flags", []))),
        wanted.get("nice", 0),
        wanted.get("priority", 0),
        wanted.get("runtime", 0),
        wanted.get("deadline", 0),
        wanted.get("period", 0),
    )


def _io_priority(wanted: "IoPriority | None") -> int | None:
    if wanted is None:
        return None
    return IO_CLASSES[wanted["class"]] << _IO_CLASS_SHIFT | wanted.get("priority", 0)


def memory_policy(wanted: "MemoryPolicy | None") -> "tuple[int, int] | None":
    """Return mode with flags, and the nodes as bits, of a `linux.memoryPolicy`."""
    if not wanted:
        return None
    mode = MEMORY_MODES[wanted["mode"]]
    mode |= sum(MEMORY_FLAGS[flag] for flag in set(wanted.get("flags", [])))
    nodes = wanted.get("nodes", "")
    return mode, sum(1 << node for node in number_list(nodes)) if nodes else 0


def number_list(text: str) -> "list[int]":
    """Return the numbers of a list as the kernel writes them: `0-3,7`. Raises ValueError."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low, high = int(first), int(last if dash else first)
        if high < low or high > 1 << 13:
            raise ValueError(f"no range of numbers: {part}")
        numbers.update(range(low, high + 1))
    return sorted(numbers)


def _affinity(wanted: "ExecCpuAffinity") -> "tuple[list[int], list[int]]":
    lists = [wanted.get("initial", ""), wanted.get("final", "")]
    initial, final = (number_list(text) if text else [] for text in lists)
    return initial, final


def _check(process: "Process") -> None:
    if not process["args"]:
        raise InvalidSpec("no command specified")
    if not process["cwd"].startswith("/"):
        raise InvalidSpec(f"working directory {process['cwd']!r}: not absolute")
    nameless = next((item for item in process.get("env", []) if item.startswith("=")), None)
    if nameless is not None:
        raise InvalidSpec(f"environment: {nameless!r} has no name before the =")


def process_plan(process: "Process", user: str = "") -> "ProcessPlan":
    """Return what the launcher is told about a process.

    user: as USER writes it, resolved in the container; empty takes the numbers of the spec.
    Raises InvalidSpec.
    """
    _check(process)
    identity, window = process["user"], process.get("consoleSize")
    groups = list(identity.get("additionalGids", []))
    return {
        "keep_fds": 0,
        "tty": process.get("terminal", False),
        "tty_socket": -1,
        "window": (window["height"], window["width"]) if window else (0, 0),
        "user": user,
        "account": (identity["uid"], identity["gid"], groups),
        "additional_groups": [*groups],
        "umask": identity.get("umask", 0o022),
        "trampoline": -1,
        "limits": [_limit(limit) for limit in process.get("rlimits", [])],
        "strict": False,
        "cwd": process["cwd"],
        "create_cwd": False,
        "own_cwd": False,
        "args": list(process["args"]),
        "env": list(process.get("env", [])),
        "capabilities": _capabilities(process.get("capabilities", {})),
        "no_new_privileges": process.get("noNewPrivileges", False),
        "oom_score_adj": process.get("oomScoreAdj"),
        "scheduler": _scheduler(process.get("scheduler")),
        "io_priority": _io_priority(process.get("ioPriority")),
        "memory_policy": None,
        "affinity": _affinity(process.get("execCPUAffinity", {})),
        "security_label": (process.get("apparmorProfile", ""), process.get("selinuxLabel", "")),
        "emulating_filter": b"",
        "seccomp": b"",
        "seccomp_load": {"flags": 0, "listener": "", "metadata": ""},
    }
