"""Resource limits as writes to cgroup files: one description, v1 and v2. Pure.

Source: runtime-spec config-linux.md, "Control groups", and crun's table of conversions.
"""

from runtime.linux import devicefilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runtime.plan import CgroupPlan
    from runtime.spec import BlockIo, Cpu, DeviceRule, Memory, Resources, Spec

_NO_LIMIT = -1
PARENT = "/pybuild"  # of the leaves of builds and runs, in each tree


def _limit(value: int) -> str:
    return "max" if value < 0 else str(value)


def weight_of_shares(shares: int) -> int:
    """Return the v2 cpu.weight (1..10000) that means what v1's `shares` (2..262144) mean."""
    if shares <= 0:
        return 0
    bounded = min(max(shares, 2), 262144)
    return 1 + (bounded - 2) * 9999 // 262142


def weight_of_blkio(weight: int) -> int:
    """Return the v2 io.weight (1..10000) that means what v1's blkio.weight (10..1000) means."""
    return 1 + (weight - 10) * 9999 // 990 if weight else 0


# blockIO's lists of limits: v2's name in io.max, v1's file.
_THROTTLES = (
    ("throttleReadBpsDevice", "rbps", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "wbps", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "riops", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "wiops", "blkio.throttle.write_iops_device"),
)


def v2_writes(resources: "Resources") -> "list[tuple[str, str]]":
    """Return (file, value) of a v2 leaf, in the order to be written.

    A leading `?` marks a file that not every kernel has. What `unified` says comes last.
    """
    writes = [
        *_v2_memory(resources.get("memory", {})),
        *_v2_cpu(resources.get("cpu", {})),
        *_v2_io(resources.get("blockIO", {})),
    ]
    pids = resources.get("pids")
    if pids and pids["limit"]:
        writes.append(("pids.max", _limit(pids["limit"])))
    for page in resources.get("hugepageLimits", []):
        writes.append((f"hugetlb.{page['pageSize']}.max", str(page["limit"])))
        writes.append((f"?hugetlb.{page['pageSize']}.rsvd.max", str(page["limit"])))
    writes += [("rdma.max", value) for value in _rdma(resources)]
    return writes + sorted(resources.get("unified", {}).items())


def _v2_memory(memory: "Memory") -> "Iterator[tuple[str, str]]":
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if limit:
        yield "memory.max", _limit(limit)
    if swap:
        # v1 counts memory and swap together, v2 swap alone.
        yield "memory.swap.max", "max" if swap < 0 else str(max(swap - limit, 0))
    elif limit < 0:
        yield "?memory.swap.max", "max"  # no limit is none of both. Source: runc
    if memory.get("reservation"):
        yield "memory.low", _limit(memory["reservation"])


def _v2_cpu(cpu: "Cpu") -> "Iterator[tuple[str, str]]":
    if "idle" in cpu:
        yield "cpu.idle", str(cpu["idle"])
    if cpu.get("shares") and not cpu.get("idle"):
        yield "cpu.weight", str(weight_of_shares(cpu["shares"]))
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota", _NO_LIMIT)
        yield "cpu.max", f"{_limit(quota or -1)} {cpu.get('period') or 100000}"
    if "burst" in cpu:
        yield "cpu.max.burst", str(cpu["burst"])
    for key, file in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        value = cpu.get(key)
        if value:
            yield file, str(value)


def _v2_io(block: "BlockIo") -> "Iterator[tuple[str, str]]":
    if block.get("weight"):
        yield "?io.bfq.weight", str(block["weight"])
        yield "?io.weight", f"default {weight_of_blkio(block['weight'])}"
    for device in block.get("weightDevice", []):
        if device.get("weight"):
            yield "io.bfq.weight", f"{device['major']}:{device['minor']} {device['weight']}"
    for key, name, _ in _THROTTLES:
        for limit in block.get(key, []):  # type: ignore[attr-defined]
            yield "io.max", f"{limit['major']}:{limit['minor']} {name}={limit['rate'] or 'max'}"


def _rdma(resources: "Resources") -> "Iterator[str]":
    for device, limits in sorted(resources.get("rdma", {}).items()):
        handles, objects = limits.get("hcaHandles", "max"), limits.get("hcaObjects", "max")
        yield f"{device} hca_handle={handles} hca_object={objects}"


_V1_MEMORY = (
    ("limit", "memory.limit_in_bytes"),
    ("swap", "memory.memsw.limit_in_bytes"),
    ("reservation", "memory.soft_limit_in_bytes"),
    ("kernel", "?memory.kmem.limit_in_bytes"),
    ("kernelTCP", "?memory.kmem.tcp.limit_in_bytes"),
)
_V1_CPU = (
    ("shares", "cpu", "cpu.shares"),
    ("period", "cpu", "cpu.cfs_period_us"),
    ("quota", "cpu", "cpu.cfs_quota_us"),
    ("burst", "cpu", "cpu.cfs_burst_us"),
    ("realtimePeriod", "cpu", "cpu.rt_period_us"),
    ("realtimeRuntime", "cpu", "cpu.rt_runtime_us"),
    ("idle", "cpu", "cpu.idle"),
    ("cpus", "cpuset", "cpuset.cpus"),
    ("mems", "cpuset", "cpuset.mems"),
)
# What v1 alone can do; where there is only v2 these are refused.
ONLY_V1 = ("cpu.rt_period_us", "cpu.rt_runtime_us", "net_cls.classid", "net_prio.ifpriomap")


def v1_writes(resources: "Resources") -> "list[tuple[str, str, str]]":
    """Return (controller, file, value) of v1 leaves, in the order to be written."""
    memory: Mapping[str, object] = resources.get("memory", {})
    cpu: Mapping[str, object] = resources.get("cpu", {})
    writes = [("memory", file, str(memory[key])) for key, file in _V1_MEMORY if memory.get(key)]
    if memory.get("limit") == _NO_LIMIT and not memory.get("swap"):
        # v1's other limit is of both together: no memory limit fits below one.
        writes.append(("memory", "?memory.memsw.limit_in_bytes", "-1"))
    if "swappiness" in memory:
        writes.append(("memory", "memory.swappiness", str(memory["swappiness"])))
    if memory.get("disableOOMKiller"):
        writes.append(("memory", "memory.oom_control", "1"))
    writes += [(tree, file, str(cpu[key])) for key, tree, file in _V1_CPU if cpu.get(key)]
    pids = resources.get("pids")
    if pids and pids["limit"]:
        writes.append(("pids", "pids.max", _limit(pids["limit"])))
    writes += [("blkio", file, value) for file, value in _v1_blkio(resources.get("blockIO", {}))]
    for page in resources.get("hugepageLimits", []):
        file = f"hugetlb.{page['pageSize']}.limit_in_bytes"
        writes.append(("hugetlb", file, str(page["limit"])))
    network = resources.get("network", {})
    if network.get("classID"):
        writes.append(("net_cls", "net_cls.classid", str(network["classID"])))
    for entry in network.get("priorities", []):
        value = f"{entry['name']} {entry['priority']}"
        writes.append(("net_prio", "net_prio.ifpriomap", value))
    writes += [("rdma", "rdma.max", value) for value in _rdma(resources)]
    return writes


def _v1_blkio(block: "BlockIo") -> "Iterator[tuple[str, str]]":
    if block.get("weight"):
        yield "?blkio.weight", str(block["weight"])
        yield "?blkio.bfq.weight", str(block["weight"])
    if block.get("leafWeight"):
        yield "blkio.leaf_weight", str(block["leafWeight"])
    for device in block.get("weightDevice", []):
        number = f"{device['major']}:{device['minor']}"
        if device.get("weight"):
            yield "blkio.bfq.weight_device|blkio.weight_device", f"{number} {device['weight']}"
        if device.get("leafWeight"):
            yield "blkio.leaf_weight_device", f"{number} {device['leafWeight']}"
    for key, _, file in _THROTTLES:
        for limit in block.get(key, []):  # type: ignore[attr-defined]
            yield file, f"{limit['major']}:{limit['minor']} {limit['rate']}"


def device_rules(resources: "Resources") -> "list[devicefilter.Rule]":
    """Return the device rules, of which the last that matches decides."""
    return [_rule(rule) for rule in resources.get("devices", [])]


def _rule(rule: "DeviceRule") -> devicefilter.Rule:
    kind = rule.get("type") or "a"
    access = rule.get("access") or "rwm"
    major, minor = rule.get("major"), rule.get("minor")
    return (
        kind,
        -1 if major is None else major,
        -1 if minor is None else minor,
        access,
        rule["allow"],
    )


def _v1_rule(rule: devicefilter.Rule) -> "tuple[str, str]":
    kind, major, minor, access, allow = rule
    file = "devices.allow" if allow else "devices.deny"
    numbers = ":".join("*" if number < 0 else str(number) for number in (major, minor))
    return file, "a *:* rwm" if kind == "a" else f"{kind} {numbers} {access}"


def cgroup_plan(spec: "Spec", name: str) -> "CgroupPlan":
    """Return the cgroup of `spec`; device rules that allow everything need none."""
    linux = spec.get("linux", {})
    resources = linux.get("resources", {})
    rules = device_rules(resources)
    if all(rule[4] for rule in rules):
        rules = []
    v2, v1 = v2_writes(resources), v1_writes(resources)
    parent, _, leaf = (linux.get("cgroupsPath") or f"{PARENT}/{name}").rpartition("/")
    return {
        "parent": parent,
        "name": leaf,
        "required": bool(v2 or v1),
        "kept": False,
        "owner": -1,
        "v2": v2,
        "v1": v1,
        "unified": sorted(resources.get("unified", {}).items()),
        "device_program": devicefilter.compile_rules(rules) if rules else b"",
        # Deny all before allowing some.
        "v1_devices": [("devices.deny", "a"), *map(_v1_rule, rules)] if rules else [],
    }
