"""update: change the limits of a container."""

import sys

from runtime import jsontext, schema
from runtime.cgroups import v1_writes, v2_writes
from runtime.command.arguments import container_id
from runtime.command.context import Context
from runtime.command.options import Options, Parsed, UsageError
from runtime.container import Container
from runtime.errors import InvalidSpec, RuntimeFailure, WrongState
from runtime.launch.cgroupfiles import write_all
from runtime.validate import check_resources, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "[OPTIONS] ID"
# option -> (part of the resources, field)
_FIELDS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-share": ("cpu", "shares"),
    "cpu-idle": ("cpu", "idle"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
}
OPTIONS: Options = {
    "resources": ("r", "text"),
    "cpuset-cpus": ("", "text"),
    "cpuset-mems": ("", "text"),
    "kernel-memory": ("", "text"),
    "kernel-memory-tcp": ("", "text"),
    "l3-cache-schema": ("", "text"),
    "mem-bw-schema": ("", "text"),
    **dict.fromkeys(_FIELDS, ("", "text")),
}
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def run(parsed: Parsed, context: Context) -> int:
    """Write the new limits."""
    container = Container.load(context.root, container_id(parsed), lock=True)
    if container.status() == "stopped":
        raise WrongState("container not running")
    for name in ("l3-cache-schema", "mem-bw-schema"):
        if parsed.text(name):
            raise UsageError(f"--{name}: Intel RDT: not supported")
    resources = walk(_resources(parsed), schema.RESOURCES, "resources")
    check_resources(resources, "resources")
    _check_memory(container, resources)
    if "scope" in container.record:
        from runtime.systemd.scope import update

        update(container.record["scope"], resources, v1=set(container.cgroups) != {"unified"})
    try:
        _write(container, resources)
    except OSError as error:
        raise RuntimeFailure(f"update {error.filename}: {error.strerror}") from error
    return 0


def _resources(parsed: Parsed) -> "dict[str, Any]":
    path = parsed.text("resources")
    if path:
        try:
            if path == "-":
                data = sys.stdin.buffer.read()
            else:
                with open(path, "rb") as file:
                    data = file.read()
            value = jsontext.loads(data)
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise InvalidSpec(f"--resources {path}: {cause}") from error
        if not isinstance(value, dict):
            raise InvalidSpec(f"--resources {path}: not an object")
        return value
    resources: dict[str, Any] = {}
    for name, (part, field) in _FIELDS.items():
        if parsed.text(name):
            resources.setdefault(part, {})[field] = _number(name, parsed.text(name))
    for name in ("cpus", "mems"):
        if parsed.text(f"cpuset-{name}"):
            resources.setdefault("cpu", {})[name] = parsed.text(f"cpuset-{name}")
    return resources


def _number(name: str, text: str) -> int:
    digits = text.rstrip("bkmgtBKMGT")
    unit = text[len(digits) :].lower()
    unit = unit[0] if len(unit) == 2 and unit[1] == "b" else unit
    if not digits.removeprefix("-").isdigit() or unit not in _UNITS:
        raise UsageError(f"--{name}: {text!r} is no number")
    return int(digits) * _UNITS[unit]


def _check_memory(container: Container, resources: "dict[str, Any]") -> None:
    memory = resources.get("memory", {})
    limit = memory.get("limit", 0)
    if not memory.get("checkBeforeUpdate") or limit <= 0:
        return
    cgroups = container.cgroups
    if "memory" in cgroups:
        path = f"{cgroups['memory']}/memory.usage_in_bytes"
    else:
        path = f"{cgroups['unified']}/memory.current"
    with open(path, encoding="utf-8") as file:
        used = int(file.read())
    if used > limit:
        raise InvalidSpec(f"resources.memory.limit: {limit} is below what is in use: {used}")


def _write(container: Container, resources: "dict[str, Any]") -> None:
    cgroups = container.cgroups
    if set(cgroups) == {"unified"}:
        write_all(cgroups["unified"], v2_writes(resources))  # type: ignore[arg-type]
        return
    left = v1_writes(resources)  # type: ignore[arg-type]
    # Memory and memory with swap bound each other: which goes first depends on whether they grow.
    refused: list[tuple[str, str, str]] = []
    for entry in left:
        try:
            _write_one(cgroups, entry)
        except OSError:
            refused.append(entry)
    for entry in refused[::-1]:
        _write_one(cgroups, entry)
    if "unified" in cgroups:
        write_all(cgroups["unified"], sorted(resources.get("unified", {}).items()))


def _write_one(cgroups: "dict[str, str]", entry: "tuple[str, str, str]") -> None:
    controller, file, value = entry
    if controller not in cgroups:
        raise RuntimeFailure(f"update {file}: the container has no {controller} cgroup")
    write_all(cgroups[controller], [(file, value)])
