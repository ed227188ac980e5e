"""What a run opens or narrows of docker's walls and limits."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pybuild.errors import ContainerError
from values.classes import dataclass, replace

if TYPE_CHECKING:
    from runtime.execution import Execution, Tmpfs
    from runtime.spec import Device, DeviceRule, Resources

_CPU_PERIOD_US = 100_000
DOCKERS_PROFILE = "docker-default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """docker's options of `run` about rights and limits; what is empty or 0 stays as it is.

    cap_add, cap_drop: names with or without CAP_, or ALL. seccomp: `unconfined`, or a profile's
    path. system_paths: whether parts of /proc and /sys are masked and read-only.
    apparmor: name of a profile that the host has loaded.
    devices: (host's path, container's path, letters of rwm). memory_swap_bytes: with memory, -1
    is any. cpus: how many, as 1.5. tmpfs: (target, options). ulimits: (name, soft, hard).
    """

    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    seccomp: str = ""
    no_new_privileges: bool = False
    system_paths: bool = True
    apparmor: str = ""
    devices: tuple[tuple[str, str, str], ...] = ()
    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    memory_reservation_bytes: int = 0
    cpus: float = 0.0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    tmpfs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    shm_bytes: int = 0
    groups: tuple[int | str, ...] = ()
    oom_score_adj: int | None = None


def walled(execution: Execution, walls: Walls) -> Execution:
    """Return `execution` with its walls and limits moved. Raises ContainerError."""
    from runtime.defaults import CAPABILITIES

    changes: dict[str, Any] = {
        "privileged": walls.privileged,
        "capabilities": capabilities(CAPABILITIES, walls.cap_add, walls.cap_drop),
        "no_new_privileges": walls.no_new_privileges,
        "system_paths": walls.system_paths,
        "apparmor": _apparmor(walls.apparmor),
        "limits": tuple(
            {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
            for name, soft, hard in walls.ulimits
        ),
        "resources": _resources(walls),
        "sysctl": walls.sysctls,
        "additional_groups": walls.groups,
        "oom_score_adj": walls.oom_score_adj,
        "binds": (*execution.binds, *(_tmpfs(*entry) for entry in walls.tmpfs)),
    }
    if walls.shm_bytes:
        changes["shm_bytes"] = walls.shm_bytes
    if walls.seccomp:
        changes["seccomp"] = walls.seccomp != "unconfined" and _profile(walls.seccomp)
    if walls.devices:
        pairs = [_device(*entry) for entry in walls.devices]
        changes["devices"] = tuple(device for device, _ in pairs)
        changes["device_rules"] = tuple(rule for _, rule in pairs)
    return replace(execution, **changes)


def capabilities(
    usual: Sequence[str], added: Sequence[str], dropped: Sequence[str]
) -> tuple[str, ...]:
    """Return the capabilities after --cap-add and --cap-drop. Raises ContainerError.

    Source: moby, oci/caps/utils.go, TweakCapabilities.
    """
    from runtime.defaults import ALL_CAPABILITIES

    add, drop = ([_capability(name) for name in names] for names in (added, dropped))
    if "ALL" in add:
        return tuple(name for name in ALL_CAPABILITIES if name not in drop)
    if "ALL" in drop:
        return tuple(name for name in ALL_CAPABILITIES if name in add)
    return tuple(dict.fromkeys([*(name for name in usual if name not in drop), *add]))


def _capability(name: str) -> str:
    from runtime.defaults import ALL_CAPABILITIES

    upper = name.upper()
    if upper == "ALL":
        return upper
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in ALL_CAPABILITIES:
        raise ContainerError(f"unknown capability {name!r}")
    return full


def _resources(walls: Walls) -> Resources:
    resources: Resources = {}
    memory = {
        "limit": walls.memory_bytes,
        # docker's: as much swap as memory.
        "swap": walls.memory_swap_bytes or 2 * walls.memory_bytes,
        "reservation": walls.memory_reservation_bytes,
    }
    cpu = {
        "shares": walls.cpu_shares,
        "quota": round(walls.cpus * _CPU_PERIOD_US),
        "period": _CPU_PERIOD_US if walls.cpus else 0,
        "cpus": walls.cpuset_cpus,
        "mems": walls.cpuset_mems,
    }
    if any(memory.values()):
        resources["memory"] = {name: value for name, value in memory.items() if value}  # type: ignore[typeddict-item]
    if any(cpu.values()):
        resources["cpu"] = {name: value for name, value in cpu.items() if value}  # type: ignore[typeddict-item]
    if walls.pids_limit:
        resources["pids"] = {"limit": walls.pids_limit}
    return resources


def _apparmor(profile: str) -> str:
    """Return the profile to be applied, "" for none. Raises ContainerError.

    docker's own name is its default, which it leaves out too where there is no AppArmor.
    """
    from runtime.security_modules import has_apparmor

    if not profile or has_apparmor():
        return profile
    if profile == DOCKERS_PROFILE:
        return ""
    raise ContainerError(f"--security-opt apparmor={profile}: AppArmor is not enabled on this host")


def _tmpfs(target: str, options: tuple[str, ...]) -> Tmpfs:
    from runtime.execution import Tmpfs as Value

    return Value(target, options=options)


def _profile(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            profile = json.load(file)
    except (OSError, ValueError) as error:
        raise ContainerError(f"seccomp profile {path}: {error}") from error
    if not isinstance(profile, dict):
        raise ContainerError(f"seccomp profile {path}: not an object")
    return profile


def _device(source: str, target: str, access: str) -> tuple[Device, DeviceRule]:
    try:
        status = os.stat(source)
    except OSError as error:
        raise ContainerError(f"device {source}: {str(error.strerror).lower()}") from error
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise ContainerError(f"device {source}: is no device node")
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b"
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    device: Device = {
        "path": target,
        "type": kind,
        "major": major,
        "minor": minor,
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
    rule: DeviceRule = {"allow": True, "type": kind, "major": major, "minor": minor}
    rule["access"] = access
    return device, rule
