"""From an image's config to an OCI bundle's config.json: docker's rules of what overrides what.

The only module of the runtime that has heard of images. Its specs run unchanged under other OCI
runtimes, so everything that only our executor knows (generated files, snapshots) is left out.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from runtime import defaults
from runtime.errors import InvalidSpec, UserNotFound
from runtime.execution import host_devices
from runtime.launch import accounts
from runtime.linux.seccomp_policy import Rule, policy_for
from runtime.spec import (
    CapabilitySets,
    Mount,
    Namespace,
    NamespaceType,
    Process,
    Resources,
    Rlimit,
    Spec,
    User,
)
from store.oci import ContainerConfig
from values.classes import dataclass, field

_ACTIONS = {
    0x00000000: "SCMP_ACT_KILL",
    0x80000000: "SCMP_ACT_KILL_PROCESS",
    0x00030000: "SCMP_ACT_TRAP",
    0x00050000: "SCMP_ACT_ERRNO",
    0x7FF00000: "SCMP_ACT_TRACE",
    0x7FC00000: "SCMP_ACT_NOTIFY",
    0x7FFC0000: "SCMP_ACT_LOG",
    0x7FFF0000: "SCMP_ACT_ALLOW",
}
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")


@dataclass(frozen=True, slots=True)
class BindMount:
    """A host path shown in the container."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run says beyond the image's config.

    args, entrypoint, workdir, user: None takes the image's. env: `K=V` sets, `K` alone removes.
    rootfs: path of the root file system, relative to the bundle or absolute.
    """

    args: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    workdir: str | None = None
    user: str | None = None
    tty: bool = False
    interactive: bool = False
    mounts: tuple[BindMount, ...] = ()
    network: Literal["host", "none"] = "host"
    hostname: str = ""
    read_only: bool = False
    privileged: bool = False
    no_new_privileges: bool = False
    capabilities: tuple[str, ...] = defaults.CAPABILITIES
    seccomp: bool = True
    limits: tuple[Rlimit, ...] = ()
    resources: Resources = field(default_factory=lambda: Resources())
    rootfs: str = "rootfs"
    cgroup_path: str = ""


def command_of(config: ContainerConfig, options: RunOptions) -> tuple[str, ...]:
    """Return the argument list: an entrypoint given on the run drops the image's CMD too.

    Raises InvalidSpec when neither the image nor the run names a command.
    """
    if options.entrypoint is not None:
        command = options.entrypoint + (options.args or ())
    else:
        args = options.args if options.args is not None else (config.cmd or ())
        command = (config.entrypoint or ()) + args
    if not command or not command[0]:
        raise InvalidSpec("no command specified", hint="the image has no CMD: name a command")
    return command


def environment_of(config: ContainerConfig, options: RunOptions) -> tuple[str, ...]:
    """Return `K=V` entries: docker's own, the image's, the run's, each replacing those before."""
    merged: dict[str, str] = {"PATH": defaults.PATH}
    if options.hostname:
        merged["HOSTNAME"] = options.hostname
    if options.tty:
        merged["TERM"] = "xterm"
    for entry in config.env:
        name, _, value = entry.partition("=")
        merged[name] = value
    for entry in options.env:
        name, equals, value = entry.partition("=")
        if equals:
            merged[name] = value
        else:
            merged.pop(name, None)
    return tuple(f"{name}={value}" for name, value in merged.items())


def resolve_user(user: str, root: int | None, groups: Sequence[int] = ()) -> tuple[User, str]:
    """Return the numbers and the home directory of `user`, as USER writes it.

    root: directory descriptor of the root file system whose account files count; without one
    only numbers are understood.
    Raises UserNotFound.
    """
    if root is None:
        name, _, group = user.partition(":")
        numbers = [name or "0", group or "0"]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            raise UserNotFound(f"unable to find user {user}: no root file system to look in")
        return {"uid": int(numbers[0]), "gid": int(numbers[1])}, "/"
    try:
        uid, gid, supplementary, home = accounts.look_up(root, user, list(groups))
    except accounts.UnknownAccount as error:
        raise UserNotFound(str(error)) from error
    return {"uid": uid, "gid": gid, "additionalGids": supplementary}, home


def oci_seccomp(profile: Mapping[str, Any], capabilities: Sequence[str]) -> dict[str, object]:
    """Return docker's form of a profile as runtime-spec's `linux.seccomp` for this machine."""
    host = os.uname()
    policy = policy_for(profile, capabilities, host.machine, host.release)
    grouped: dict[Rule, list[str]] = {}
    for name, rule in policy.rules:
        grouped.setdefault(rule, []).append(name)
    syscalls = []
    for rule, names in grouped.items():
        entry: dict[str, object] = {"names": names, **_action(rule.action, "action", "errnoRet")}
        if rule.comparisons:
            entry["args"] = [
                {
                    "index": comparison.argument,
                    "value": comparison.value,
                    "valueTwo": comparison.value_two,
                    "op": f"SCMP_CMP_{comparison.operator}",
                }
                for comparison in rule.comparisons
            ]
        syscalls.append(entry)
    return {
        **_action(policy.default, "defaultAction", "defaultErrnoRet"),
        "architectures": [abi.scmp for abi in policy.abis],
        "syscalls": syscalls,
    }


def _action(value: int, key: str, errno_key: str) -> dict[str, object]:
    name = _ACTIONS[value & 0xFFFF0000]
    return {key: name, errno_key: value & 0xFFFF} if name in _WITH_ERRNO else {key: name}


def make_spec(config: ContainerConfig, options: RunOptions, root: int | None = None) -> Spec:
    """Return the config.json of a container made from an image.

    root: directory descriptor of the root file system, in which user names are looked up.
    Raises InvalidSpec or UserNotFound.
    """
    privileged = options.privileged
    kinds: list[NamespaceType] = ["pid", "mount", "ipc", "uts", "cgroup"]
    if options.network == "none":
        kinds.append("network")
    namespaces: list[Namespace] = [{"type": kind} for kind in kinds]
    resources = Resources(**options.resources)
    resources.setdefault("devices", [] if privileged else defaults.device_rules())
    spec: Spec = {
        "ociVersion": "1.1.0",
        "root": {"path": options.rootfs, "readonly": options.read_only},
        "process": _process(config, options, root),
        "hostname": options.hostname,
        "mounts": defaults.mounts(privileged=privileged) + _binds(options),
        "linux": {
            "namespaces": namespaces,
            "devices": host_devices() if privileged else [],
            "resources": resources,
            "maskedPaths": [] if privileged else list(defaults.MASKED_PATHS),
            "readonlyPaths": [] if privileged else list(defaults.READ_ONLY_PATHS),
        },
    }
    if options.cgroup_path:
        spec["linux"]["cgroupsPath"] = options.cgroup_path
    if options.seccomp and not privileged:
        spec["linux"]["seccomp"] = oci_seccomp(defaults.seccomp_profile(), options.capabilities)
    return spec


def _binds(options: RunOptions) -> list[Mount]:
    return [
        {
            "destination": bind.target,
            "type": "bind",
            "source": bind.source,
            "options": ["rbind", "ro" if bind.read_only else "rw", "rprivate"],
        }
        for bind in sorted(options.mounts, key=lambda b: b.target.rstrip("/").count("/"))
    ]


def _process(config: ContainerConfig, options: RunOptions, root: int | None) -> Process:
    user, home = resolve_user(options.user if options.user is not None else config.user, root)
    env = environment_of(config, options)
    if not any(entry.startswith("HOME=") for entry in env):
        env = (*env, f"HOME={home}")
    names = list(defaults.ALL_CAPABILITIES if options.privileged else options.capabilities)
    # No ambient and no inheritable set: an ordinary user gets no capability (CVE-2022-24769).
    sets: CapabilitySets = {"bounding": names, "effective": names, "permitted": names}
    return {
        "args": list(command_of(config, options)),
        "cwd": (options.workdir if options.workdir is not None else config.working_dir) or "/",
        "env": list(env),
        "terminal": options.tty,
        "user": user,
        "capabilities": sets,
        "noNewPrivileges": options.no_new_privileges,
        "rlimits": list(options.limits),
    }
