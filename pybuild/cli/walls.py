"""The options of `run` about rights and limits: command line → `Walls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pybuild.cli.options import Option, Parsed, flag, many, usage_error, value
from pybuild.errors import NotSupported

if TYPE_CHECKING:
    from pybuild.cli.options import Syntax
    from pybuild.engine.walls import Walls

OPTIONS: tuple[Option, ...] = (
    flag("privileged", "every right and device of the host"),
    many("cap-add", "NAME", "give a capability, or ALL"),
    many("cap-drop", "NAME", "take a capability, or ALL"),
    many(
        "security-opt", "OPTION", "no-new-privileges, seccomp=…, apparmor=…, systempaths=unconfined"
    ),
    many("device", "HOST[:DIR[:rwm]]", "show a device of the host"),
    value("memory", "SIZE", "memory limit", "m"),
    value("memory-swap", "SIZE", "limit of memory and swap; -1 is any"),
    value("memory-reservation", "SIZE", "memory that is kept for it"),
    value("cpus", "NUMBER", "how many CPUs, as 1.5"),
    value("cpu-shares", "NUMBER", "weight of its turns, 1024 by default", "c"),
    value("cpuset-cpus", "LIST", "which CPUs, as 0-2,4"),
    value("cpuset-mems", "LIST", "which memory nodes"),
    value("pids-limit", "NUMBER", "how many processes and threads; -1 is any"),
    many("tmpfs", "DIR[:OPTIONS]", "an empty file system in memory"),
    many("ulimit", "NAME=SOFT[:HARD]", "resource limit, as nofile=1024:2048"),
    many("sysctl", "K=V", "kernel setting of the container's namespaces"),
    value("shm-size", "SIZE", "size of /dev/shm, 64m by default"),
    many("group-add", "GROUP", "another group of the user, a number or a name"),
    value("oom-score-adj", "NUMBER", "who is killed first for want of memory, -1000 to 1000"),
)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_IN_BYTES = 1 << 60


def walls_of(parsed: Parsed, syntax: Syntax) -> Walls:
    """Return what the command line says. Raises UsageError and NotSupported."""
    from pybuild.engine.walls import Walls

    adjust = parsed.text("oom-score-adj")
    _check_memory(parsed, syntax)
    return Walls(
        privileged=parsed.flag("privileged"),
        cap_add=tuple(parsed.many("cap-add")),
        cap_drop=tuple(parsed.many("cap-drop")),
        **_security(parsed, syntax),
        devices=tuple(_device(text, syntax) for text in parsed.many("device")),
        memory_bytes=_size(parsed, "memory", syntax),
        memory_swap_bytes=_size(parsed, "memory-swap", syntax),
        memory_reservation_bytes=_size(parsed, "memory-reservation", syntax),
        cpus=_cpus(parsed.text("cpus"), syntax),
        cpu_shares=_number(parsed, "cpu-shares", syntax),
        cpuset_cpus=parsed.text("cpuset-cpus") or "",
        cpuset_mems=parsed.text("cpuset-mems") or "",
        pids_limit=_number(parsed, "pids-limit", syntax),
        tmpfs=tuple(_tmpfs(text, syntax) for text in parsed.many("tmpfs")),
        ulimits=tuple(_ulimit(text, syntax) for text in parsed.many("ulimit")),
        sysctls=tuple(_pair(text, "--sysctl", syntax) for text in parsed.many("sysctl")),
        shm_bytes=_size(parsed, "shm-size", syntax),
        groups=tuple(_group(text, syntax) for text in parsed.many("group-add")),
        oom_score_adj=None if adjust is None else _number(parsed, "oom-score-adj", syntax),
    )


def _security(parsed: Parsed, syntax: Syntax) -> dict[str, Any]:
    """Return the fields of `Walls` that --security-opt is about."""
    found: dict[str, Any] = {}
    for text in parsed.many("security-opt"):
        name, equals, rest = text.partition("=")
        if not equals:
            name, _, rest = text.partition(":")
        if name == "no-new-privileges" and rest in ("", "true", "false"):
            found["no_new_privileges"] = rest != "false"
        elif name == "seccomp" and rest:
            found["seccomp"] = "" if rest == "builtin" else rest
        elif (name, rest) == ("systempaths", "unconfined"):
            found["system_paths"] = False
        elif name == "apparmor" and rest:
            found["apparmor"] = "" if rest == "unconfined" else rest
        elif (name, rest) == ("label", "disable"):
            pass  # none is applied
        elif name in ("label", "proc-opts", "credentialspec"):
            raise NotSupported(f"--security-opt {text}: not supported yet")
        else:
            raise usage_error(syntax, f'--security-opt: "{text}" is unknown')
    return found


def _device(text: str, syntax: Syntax) -> tuple[str, str, str]:
    source, *rest = text.split(":")
    target, access = source, "rwm"
    if len(rest) == 1 and rest[0] and set(rest[0]) <= set("rwm"):
        access = rest[0]
    elif rest:
        target, access = rest[0], rest[1] if len(rest) > 1 else "rwm"
    valid = source.startswith("/") and target.startswith("/") and len(rest) < 3
    if not valid or not access or not set(access) <= set("rwm"):
        raise usage_error(syntax, f'--device: "{text}" is no HOST[:CONTAINER[:rwm]]')
    return source, target, access


def _bytes(text: str) -> int | None:
    digits = text.rstrip("bkmgtBKMGT")
    unit = text[len(digits) :].lower()
    unit = unit[0] if len(unit) == 2 and unit[1] == "b" else unit
    try:
        size = round(float(digits) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        return None
    return size if 0 <= size < _IN_BYTES else None


def _size(parsed: Parsed, name: str, syntax: Syntax) -> int:
    text = parsed.text(name)
    if text is None or (name == "memory-swap" and text == "-1"):
        return 0 if text is None else -1
    size = _bytes(text)
    if size is None:
        raise usage_error(syntax, f'--{name}: "{text}" is no size, as 512m')
    return size


def _check_memory(parsed: Parsed, syntax: Syntax) -> None:
    """Refuse limits that contradict each other, in docker's words (daemon/daemon_unix.go)."""
    names = ("memory", "memory-swap", "memory-reservation")
    limit, swap, reserved = (_size(parsed, name, syntax) for name in names)
    if swap > 0 and not limit:
        text = "You should always set the Memory limit when using Memoryswap limit, see usage"
    elif 0 < swap < limit:
        text = "Minimum memoryswap limit should be larger than memory limit, see usage"
    elif 0 < limit < reserved:
        text = "Minimum memory limit can not be less than memory reservation limit, see usage"
    else:
        return
    raise usage_error(syntax, text)


def _number(parsed: Parsed, name: str, syntax: Syntax) -> int:
    text = parsed.text(name)
    if text is None:
        return 0
    if not text.removeprefix("-").isdecimal():
        raise usage_error(syntax, f'--{name}: "{text}" is no number')
    return int(text)


def _cpus(text: str | None, syntax: Syntax) -> float:
    if text is None:
        return 0.0
    if not text.replace(".", "", 1).isdecimal() or float(text) <= 0:
        raise usage_error(syntax, f'--cpus: "{text}" is no number of CPUs')
    return float(text)


def _tmpfs(text: str, syntax: Syntax) -> tuple[str, tuple[str, ...]]:
    target, _, options = text.partition(":")
    if not target.startswith("/") or target.strip("/") == "":
        raise usage_error(syntax, f'--tmpfs: "{target}" is no absolute path below /')
    return target, tuple(option for option in options.split(",") if option)


def _ulimit(text: str, syntax: Syntax) -> tuple[str, int, int]:
    name, limits = _pair(text, "--ulimit", syntax)
    soft, colon, hard = limits.partition(":")
    numbers = (soft, hard if colon else soft)
    if not all(number == "-1" or number.isdecimal() for number in numbers):
        raise usage_error(syntax, f'--ulimit: "{text}" is no NAME=SOFT[:HARD]')
    low, high = int(numbers[0]), int(numbers[1])
    if high != -1 and (low > high or low == -1):
        raise usage_error(
            syntax, f"--ulimit: {name}: the soft limit {low} is above the hard {high}"
        )
    return name, low, high


def _pair(text: str, option: str, syntax: Syntax) -> tuple[str, str]:
    key, found, rest = text.partition("=")
    if not key or not found:
        raise usage_error(syntax, f'{option}: "{text}" is no K=V')
    return key, rest


def _group(text: str, syntax: Syntax) -> int | str:
    if not text:
        raise usage_error(syntax, "--group-add: a group is needed")
    return int(text) if text.isdecimal() else text
