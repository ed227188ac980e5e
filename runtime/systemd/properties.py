"""linux.resources as properties of a scope: what systemd writes into its cgroup, and writes again
whenever it is reloaded. What it has no property for, and what it rounds, goes into the files. Pure.

Source: systemd.resource-control(5); runc, libcontainer/cgroups/systemd; crun, cgroup-systemd.c.
"""

from runtime.cgroups import device_rules, weight_of_blkio, weight_of_shares
from runtime.errors import InvalidSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.linux.devicefilter import Rule
    from runtime.spec import Cpu, Memory, Resources
    from runtime.systemd.variants import Property

_INFINITY = 2**64 - 1
_PERIOD_US = 100000
_SHARES = (2, 262144)
_ACCOUNTS = ("CPUAccounting", "MemoryAccounting", "TasksAccounting")
_UNIFIED = {
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
}
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def scope_properties(slice_name: str, container_id: str, *, v1: bool) -> "list[Property]":
    """Return what every container's scope has. v1: the limits' controllers are cgroup v1's."""
    accounts = (*_ACCOUNTS, "BlockIOAccounting" if v1 else "IOAccounting")
    return [
        ("Description", "s", f"pybuild-runtime container {container_id}"),
        ("Slice", "s", slice_name),
        ("Delegate", "b", True),
        ("DefaultDependencies", "b", False),
        *((name, "b", True) for name in accounts),
    ]


def limits(resources: "Resources", *, v1: bool) -> "list[Property]":
    """Return the properties of the limits that are given. Raises InvalidSpec."""
    found = [
        *_memory(resources.get("memory", {}), v1=v1),
        *_cpu(resources.get("cpu", {}), v1=v1),
    ]
    pids = resources.get("pids")
    if pids and pids["limit"]:
        found.append(("TasksMax", "t", _amount(pids["limit"])))
    weight = resources.get("blockIO", {}).get("weight")
    if weight:
        v2_weight = ("IOWeight", "t", weight_of_blkio(weight))
        found.append(("BlockIOWeight", "t", weight) if v1 else v2_weight)
    if not v1:
        for name, value in sorted(resources.get("unified", {}).items()):
            found += _unified(name, value.strip())
    return found


def _amount(value: int) -> int:
    return _INFINITY if value < 0 else value


def _memory(memory: "Memory", *, v1: bool) -> "Iterator[Property]":
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if limit:
        yield "MemoryMax", "t", _amount(limit)
    if v1:
        return
    if swap:
        # The specification counts memory and swap together, v2 swap alone.
        yield "MemorySwapMax", "t", _amount(swap if swap < 0 else max(swap - limit, 0))
    if memory.get("reservation"):
        yield "MemoryLow", "t", _amount(memory["reservation"])


def _cpu(cpu: "Cpu", *, v1: bool) -> "Iterator[Property]":
    shares = cpu.get("shares")
    if shares and not cpu.get("idle"):
        low, high = _SHARES
        bounded = min(max(shares, low), high)
        yield ("CPUShares", "t", bounded) if v1 else ("CPUWeight", "t", weight_of_shares(shares))
    yield from _quota(cpu.get("quota", 0), cpu.get("period", 0))
    if v1:
        return
    for key, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
        if cpu.get(key):
            yield name, "ay", bits_of(str(cpu[key]))  # type: ignore[literal-required]


def _quota(quota: int, period: int) -> "Iterator[Property]":
    """Yield the properties of a quota, in microseconds a period; systemd has them a second."""
    if period:
        yield "CPUQuotaPeriodUSec", "t", period
    if quota > 0:
        # In whole percents, rounded up: a cgroup inside may then have what was asked for.
        per_second = quota * 1_000_000 // (period or _PERIOD_US)
        yield "CPUQuotaPerSecUSec", "t", -(-per_second // 10000) * 10000
    elif quota or period:
        yield "CPUQuotaPerSecUSec", "t", _INFINITY


def bits_of(ranges: str) -> bytes:
    """Return a list of CPUs or nodes, as `0-2,7`, as bits, the lowest in the first byte.

    Raises InvalidSpec.
    """
    bits = 0
    for part in ranges.replace("\n", ",").split(","):
        first, dash, last = part.strip().partition("-")
        if not first and not dash:
            continue
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) > 65535:
            raise InvalidSpec(f"linux.resources.cpu: {ranges!r} is no list of CPUs or nodes")
        for number in range(int(first), int(last or first) + 1):
            bits |= 1 << number
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _unified(name: str, value: str) -> "Iterator[Property]":
    """Yield the property of a file of cgroup v2, where systemd has one for it."""
    if name in _SETS:
        yield _SETS[name], "ay", bits_of(value)
    elif name in _UNIFIED:
        yield _UNIFIED[name], "t", _INFINITY if value == "max" else _decimal(name, value)
    elif name == "cpu.max":
        quota, _, period = value.partition(" ")
        amount = -1 if quota == "max" else _decimal(name, quota)
        yield from _quota(amount, _decimal(name, period.strip()) if period else 0)


def _decimal(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidSpec(f"linux.resources.unified: {name}: {text!r} is no number")
    return int(text)


def devices(resources: "Resources", *, v1: bool) -> "list[Property]":
    """Return the properties of the device rules, of which the last that matches decides.

    systemd knows what is allowed, and no exceptions from it. v2: where there are exceptions it is
    told more, and a program of ours keeps to the rules. v1: that would hold until systemd is
    reloaded, so InvalidSpec is raised.
    """
    allowed: dict[tuple[str, int, int], set[str]] = {}
    everything = False
    for rule in device_rules(resources):
        kind, major, minor, access, allow = rule
        if (kind, major, minor, len(set(access))) == ("a", -1, -1, 3):
            everything, allowed = allow, {}
            continue
        for key in [(k, major, minor) for k in ("bc" if kind == "a" else kind)]:
            if allow:
                allowed.setdefault(key, set()).update(access)
            elif v1 and (everything or _is_exception(key, set(access), allowed)):
                text = f"systemd cannot deny part of what it allows: {_show(rule)}"
                raise InvalidSpec(f"linux.resources.devices: {text}")
            elif key in allowed:
                allowed[key].difference_update(access)
    if everything:
        return [("DevicePolicy", "s", "auto"), ("DeviceAllow", "a(ss)", [])]
    entries = [(_node(key), _letters(access)) for key, access in allowed.items() if access]
    empty: Property = ("DeviceAllow", "a(ss)", [])  # empties the list
    return [("DevicePolicy", "s", "strict"), empty, ("DeviceAllow", "a(ss)", entries)]


def _is_exception(
    key: "tuple[str, int, int]", denied: "set[str]", allowed: "dict[tuple[str, int, int], set[str]]"
) -> bool:
    return any(
        other != key and _overlap(key, other) and access & denied
        for other, access in allowed.items()
    )


def _overlap(one: "tuple[str, int, int]", other: "tuple[str, int, int]") -> bool:
    return one[0] == other[0] and all(
        a == b or a < 0 or b < 0 for a, b in zip(one[1:], other[1:], strict=True)
    )


def _letters(access: "set[str]") -> str:
    return "".join(letter for letter in "rwm" if letter in access)


def _show(rule: "Rule") -> str:
    kind, major, minor, access, _ = rule
    numbers = ":".join("*" if number < 0 else str(number) for number in (major, minor))
    return f"{kind} {numbers} {access}"


def _node(key: "tuple[str, int, int]") -> str:
    """Return what systemd calls a device, or all of a major number."""
    kind, major, minor = key
    word = "char" if kind == "c" else "block"
    if major < 0 and minor >= 0:
        text = f"systemd cannot allow one number of all majors: {kind} *:{minor}"
        raise InvalidSpec(f"linux.resources.devices: {text}")
    if minor < 0:
        return f"{word}-{'*' if major < 0 else major}"
    return f"/dev/{word}/{major}:{minor}"
