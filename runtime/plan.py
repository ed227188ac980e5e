"""From a Spec to the plan that the launcher executes: pure, and plain values only.

A plan is what crosses to the launcher by marshal, so it is made of dicts, lists, tuples, strings,
bytes and numbers. Everything that can be decided is decided here; the launcher only acts.
"""

import functools
import os
import stat
from typing import TypedDict

from runtime import cgroups, defaults
from runtime.errors import InvalidSpec
from runtime.linux import capabilities as caps
from runtime.linux import constants as c
from runtime.linux import devicefilter
from runtime.rootfs import MountPlan, RootPlan, mount_of
from runtime.spec import (
    CapabilitySets,
    Device,
    DeviceRule,
    Namespace,
    Process,
    Rlimit,
    Spec,
)

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
    """

    parent: str
    name: str
    required: bool
    v2: list[tuple[str, str]]
    v1: list[tuple[str, str, str]]
    device_program: bytes
    v1_devices: list[str]


class LaunchPlan(TypedDict):
    """Everything the launcher has to know."""

    caller: int
    anchor: str
    join: list[tuple[str, int]]
    root: RootPlan
    namespaces: int
    late_namespaces: int
    cgroup: CgroupPlan
    cgroup_view: list[tuple[str, str]]
    mounts: list[MountPlan]
    devices: list[DevicePlan]
    links: list[tuple[str, str]]
    masked: list[str]
    read_only_paths: list[str]
    hostname: str
    domainname: str
    loopback_up: bool
    sysctl: list[tuple[str, str]]
    oom_score_adj: int | None
    tty: bool
    tty_socket: int
    window: tuple[int, int]
    user: str
    additional_groups: list[int]
    umask: int
    limits: list[tuple[int, int, int]]
    cwd: str
    create_cwd: bool
    args: list[str]
    env: list[str]
    capabilities: CapabilityPlan
    no_new_privileges: bool
    seccomp: bytes


_NAMESPACES = {
    "pid": c.CLONE_NEWPID,
    "network": c.CLONE_NEWNET,
    "mount": c.CLONE_NEWNS,
    "ipc": c.CLONE_NEWIPC,
    "uts": c.CLONE_NEWUTS,
    "cgroup": c.CLONE_NEWCGROUP,
}
# In resource.h's order: a name's index is its number.
_RLIMITS = (
    *("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS"),
    *("LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"),
)
_DEVICE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def _device(device: Device) -> DevicePlan:
    kind = _DEVICE_TYPES.get(device["type"])
    if kind is None:
        raise InvalidSpec(f"device {device['path']}: unknown type {device['type']!r}")
    number = os.makedev(device.get("major", 0), device.get("minor", 0))
    mode = device.get("fileMode", 0o666)
    return device["path"], kind, number, mode, device.get("uid", 0), device.get("gid", 0)


def _devices(own: list[Device]) -> list[DevicePlan]:
    """Return the nodes to make; a device of the spec replaces the usual one of its path."""
    return list({d["path"]: _device(d) for d in (*defaults.devices(), *own)}.values())


def _rule(rule: DeviceRule) -> devicefilter.Rule:
    kind = rule.get("type") or "a"
    access = rule.get("access") or "rwm"
    return kind, rule.get("major", -1), rule.get("minor", -1), access, rule["allow"]


def _v1_rule(rule: devicefilter.Rule) -> str:
    kind, major, minor, access, _ = rule
    numbers = ":".join("*" if number < 0 else str(number) for number in (major, minor))
    return "a *:* rwm" if kind == "a" else f"{kind} {numbers} {access}"


@functools.cache
def _device_program(rules: tuple[devicefilter.Rule, ...]) -> bytes:
    return devicefilter.compile_rules(list(rules))


def cgroup_plan(spec: Spec, name: str) -> CgroupPlan:
    """Return the cgroup of `spec`; device rules that allow everything need none."""
    linux = spec.get("linux", {})
    resources = linux.get("resources", {})
    rules = tuple(_rule(rule) for rule in resources.get("devices", []))
    if all(rule[4] for rule in rules):
        rules = ()
    v2, v1 = cgroups.v2_writes(resources), cgroups.v1_writes(resources)
    parent, _, leaf = (linux.get("cgroupsPath") or f"/pybuild/{name}").rpartition("/")
    return {
        "parent": parent,
        "name": leaf,
        "required": bool(v2 or v1),
        "v2": v2,
        "v1": v1,
        "device_program": _device_program(rules) if rules else b"",
        "v1_devices": [_v1_rule(rule) for rule in rules if rule[4]],
    }


def _capabilities(sets: CapabilitySets) -> CapabilityPlan:
    try:
        return {
            "bounding": caps.mask(sets.get("bounding", [])),
            "effective": caps.mask(sets.get("effective", [])),
            "permitted": caps.mask(sets.get("permitted", [])),
            "inheritable": caps.mask(sets.get("inheritable", [])),
            "ambient": caps.mask(sets.get("ambient", [])),
        }
    except KeyError as error:
        raise InvalidSpec(f"capabilities: unknown capability {error.args[0]}") from error


def _limit(limit: Rlimit) -> tuple[int, int, int]:
    try:
        number = _RLIMITS.index(limit["type"].removeprefix("RLIMIT_"))
    except ValueError:
        raise InvalidSpec(f"rlimits: unknown limit {limit['type']}") from None
    return number, limit["soft"], limit["hard"]


def _namespaces(wanted: list[Namespace]) -> tuple[int, list[tuple[str, int]]]:
    """Return the clone flags of the namespaces to make, and (path, flag) of those to join."""
    flags, join = 0, []
    for namespace in wanted:
        kind = namespace["type"]
        if kind not in _NAMESPACES:
            raise InvalidSpec(f"{kind} namespace: not supported yet")
        path = namespace.get("path")
        if path and kind in ("mount", "pid"):
            raise InvalidSpec(f"{kind} namespace {path}: joining one is not supported yet")
        if path:
            join.append((path, _NAMESPACES[kind]))
        else:
            flags |= _NAMESPACES[kind]
    return flags, join


def _check(process: Process) -> None:
    if not process["args"]:
        raise InvalidSpec("no command specified")
    if not process["cwd"].startswith("/"):
        raise InvalidSpec(f"working directory {process['cwd']!r}: not absolute")


def launch_plan(spec: Spec, root: RootPlan, *, name: str, user: str = "") -> LaunchPlan:
    """Return the plan that runs `spec` on `root`.

    name: of the container's cgroup. user: as USER writes it, resolved in the container; empty
    takes the numbers of the spec.
    Raises InvalidSpec when the spec cannot be run.
    """
    process, linux = spec["process"], spec.get("linux", {})
    _check(process)
    namespaces, join = _namespaces(linux.get("namespaces", []))
    identity, window = process["user"], process.get("consoleSize")
    late = c.CLONE_NEWCGROUP  # only after the move into the leaf is its root the leaf
    return {
        "caller": os.getpid(),
        "anchor": root["base"],
        "join": join,
        "root": root,
        "namespaces": (namespaces | c.CLONE_NEWNS) & ~late,
        "late_namespaces": namespaces & late,
        "cgroup": cgroup_plan(spec, name),
        "cgroup_view": [],
        "mounts": [mount_of(mount) for mount in spec.get("mounts", [])],
        "devices": _devices(linux.get("devices", [])),
        "links": list(defaults.DEV_LINKS),
        "masked": list(linux.get("maskedPaths", [])),
        "read_only_paths": list(linux.get("readonlyPaths", [])),
        "hostname": spec.get("hostname", ""),
        "domainname": spec.get("domainname", ""),
        "loopback_up": bool(namespaces & c.CLONE_NEWNET),
        "sysctl": sorted(linux.get("sysctl", {}).items()),
        "oom_score_adj": process.get("oomScoreAdj"),
        "tty": process.get("terminal", False),
        "tty_socket": -1,
        "window": (window["height"], window["width"]) if window else (0, 0),
        "user": user or f"{identity['uid']}:{identity['gid']}",
        "additional_groups": list(identity.get("additionalGids", [])),
        "umask": identity.get("umask", 0o022),
        "limits": [_limit(limit) for limit in process.get("rlimits", [])],
        "cwd": process["cwd"],
        "create_cwd": False,
        "args": list(process["args"]),
        "env": list(process.get("env", [])),
        "capabilities": _capabilities(process.get("capabilities", {})),
        "no_new_privileges": process.get("noNewPrivileges", False),
        "seccomp": b"",
    }
