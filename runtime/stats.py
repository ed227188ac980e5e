"""What a container uses, read from its cgroups, in the form of runc's events."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdigit() else 0


def _table(path: str) -> "dict[str, int]":
    rows = (line.split() for line in _read(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _limit(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdigit() else 2**64 - 1 if text == "max" else 0


def oom_kills(cgroups: "dict[str, str]") -> int:
    """Return how many processes of the container the kernel killed for want of memory."""
    if "memory" in cgroups:
        return _table(f"{cgroups['memory']}/memory.oom_control").get("oom_kill", 0)
    return _table(f"{cgroups.get('unified', '')}/memory.events").get("oom_kill", 0)


def stats(cgroups: "dict[str, str]") -> "dict[str, Any]":
    """Return use and limits of CPU (nanoseconds), memory (bytes), tasks and block devices."""
    if set(cgroups) == {"unified"}:
        return _v2(cgroups["unified"])
    return _v1(cgroups)


def _v2(path: str) -> "dict[str, Any]":
    cpu = _table(f"{path}/cpu.stat")
    usage = {"usage": _number(f"{path}/memory.current"), "limit": _limit(f"{path}/memory.max")}
    usage["max"] = _number(f"{path}/memory.peak")
    return {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_usec", 0) * 1000,
                "kernel": cpu.get("system_usec", 0) * 1000,
                "user": cpu.get("user_usec", 0) * 1000,
            },
            "throttling": {
                "periods": cpu.get("nr_periods", 0),
                "throttledPeriods": cpu.get("nr_throttled", 0),
                "throttledTime": cpu.get("throttled_usec", 0) * 1000,
            },
        },
        "memory": {"usage": usage, "raw": _table(f"{path}/memory.stat")},
        "pids": {
            "current": _number(f"{path}/pids.current"),
            "limit": _number(f"{path}/pids.max"),
        },
        "blkio": {"ioServiceBytesRecursive": _io(_read(f"{path}/io.stat"))},
    }


def _io(text: str) -> "list[dict[str, object]]":
    found: list[dict[str, object]] = []
    for line in text.splitlines():
        number, *pairs = line.split()
        major, _, minor = number.partition(":")
        for pair in pairs:
            name, _, value = pair.partition("=")
            if name in ("rbytes", "wbytes"):
                op = "Read" if name == "rbytes" else "Write"
                entry = {"major": int(major), "minor": int(minor), "op": op, "value": int(value)}
                found.append(dict(entry))
    return found


def _v1(cgroups: "dict[str, str]") -> "dict[str, Any]":
    cpu, memory = cgroups.get("cpu", ""), cgroups.get("memory", "")
    acct, pids = cgroups.get("cpuacct", ""), cgroups.get("pids", "")
    ticks = 10**9 // os.sysconf("SC_CLK_TCK")
    used, throttled = _table(f"{acct}/cpuacct.stat"), _table(f"{cpu}/cpu.stat")
    return {
        "cpu": {
            "usage": {
                "total": _number(f"{acct}/cpuacct.usage"),
                "percpu": [int(n) for n in _read(f"{acct}/cpuacct.usage_percpu").split()],
                "kernel": used.get("system", 0) * ticks,
                "user": used.get("user", 0) * ticks,
            },
            "throttling": {
                "periods": throttled.get("nr_periods", 0),
                "throttledPeriods": throttled.get("nr_throttled", 0),
                "throttledTime": throttled.get("throttled_time", 0),
            },
        },
        "memory": {
            "usage": {
                "usage": _number(f"{memory}/memory.usage_in_bytes"),
                "limit": _limit(f"{memory}/memory.limit_in_bytes"),
                "max": _number(f"{memory}/memory.max_usage_in_bytes"),
                "failcnt": _number(f"{memory}/memory.failcnt"),
            },
            "raw": _table(f"{memory}/memory.stat"),
        },
        "pids": {
            "current": _number(f"{pids}/pids.current"),
            "limit": _number(f"{pids}/pids.max"),
        },
        "blkio": {},
    }
