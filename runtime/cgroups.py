"""Resource limits as writes to cgroup files: one description, v1 and v2. Pure.

Source: runtime-spec config-linux.md, "Control groups", and crun's table of conversions.
"""

from collections.abc import Mapping

from runtime.spec import Resources

_NO_LIMIT = -1


def _limit(value: int) -> str:
    return "max" if value < 0 else str(value)


def weight_of_shares(shares: int) -> int:
    """Return the v2 cpu.weight (1..10000) that means what v1's `shares` (2..262144) mean."""
    if shares <= 0:
        return 0
    bounded = min(max(shares, 2), 262144)
    return 1 + (bounded - 2) * 9999 // 262142


def v2_writes(resources: Resources) -> list[tuple[str, str]]:
    """Return (file, value) of a v2 leaf, in the order to be written."""
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    writes: list[tuple[str, str]] = []
    limit = memory.get("limit", 0)
    if limit:
        writes.append(("memory.max", _limit(limit)))
    if memory.get("swap"):
        # v1 counts memory and swap together, v2 swap alone.
        swap = memory["swap"]
        writes.append(("memory.swap.max", "max" if swap < 0 else str(max(swap - limit, 0))))
    if memory.get("reservation"):
        writes.append(("memory.low", _limit(memory["reservation"])))
    if cpu.get("shares"):
        writes.append(("cpu.weight", str(weight_of_shares(cpu["shares"]))))
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota", _NO_LIMIT)
        writes.append(("cpu.max", f"{_limit(quota or -1)} {cpu.get('period') or 100000}"))
    if cpu.get("cpus"):
        writes.append(("cpuset.cpus", cpu["cpus"]))
    if cpu.get("mems"):
        writes.append(("cpuset.mems", cpu["mems"]))
    pids = resources.get("pids")
    if pids and pids["limit"] > 0:
        writes.append(("pids.max", str(pids["limit"])))
    return writes + sorted(resources.get("unified", {}).items())


_V1_MEMORY = (
    ("limit", "memory.limit_in_bytes"),
    ("swap", "memory.memsw.limit_in_bytes"),
    ("reservation", "memory.soft_limit_in_bytes"),
)
_V1_CPU = (
    ("shares", "cpu", "cpu.shares"),
    ("period", "cpu", "cpu.cfs_period_us"),
    ("quota", "cpu", "cpu.cfs_quota_us"),
    ("cpus", "cpuset", "cpuset.cpus"),
    ("mems", "cpuset", "cpuset.mems"),
)


def v1_writes(resources: Resources) -> list[tuple[str, str, str]]:
    """Return (controller, file, value) of v1 leaves, in the order to be written."""
    memory: Mapping[str, object] = resources.get("memory", {})
    cpu: Mapping[str, object] = resources.get("cpu", {})
    writes = [("memory", file, str(memory[key])) for key, file in _V1_MEMORY if memory.get(key)]
    if "swappiness" in memory:
        writes.append(("memory", "memory.swappiness", str(memory["swappiness"])))
    if memory.get("disableOOMKiller"):
        writes.append(("memory", "memory.oom_control", "1"))
    writes += [(tree, file, str(cpu[key])) for key, tree, file in _V1_CPU if cpu.get(key)]
    pids = resources.get("pids")
    if pids and pids["limit"] > 0:
        writes.append(("pids", "pids.max", str(pids["limit"])))
    return writes
