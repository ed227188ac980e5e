"""From a Spec to the plan that the launcher executes: pure. Everything that can be decided is.

Imported by the OCI command line at every start, so it imports little.
"""

import os
import stat

from runtime import defaults
from runtime.cgroups import cgroup_plan
from runtime.errors import InvalidSpec
from runtime.linux import constants as c
from runtime.process import memory_policy, process_plan
from runtime.rootfs import PROPAGATION, mapping_lines, mount_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import DevicePlan, HookPlan, IdMapPlan, LaunchPlan, RootPlan
    from runtime.spec import Device, Hook, Linux, Namespace, Spec, TimeOffset

NAMESPACES = {
    "user": c.CLONE_NEWUSER,
    "pid": c.CLONE_NEWPID,
    "network": c.CLONE_NEWNET,
    "mount": c.CLONE_NEWNS,
    "ipc": c.CLONE_NEWIPC,
    "uts": c.CLONE_NEWUTS,
    "cgroup": c.CLONE_NEWCGROUP,
    "time": c.CLONE_NEWTIME,
}
_DEVICE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
HOOK_MOMENTS = (
    *("prestart", "createRuntime", "createContainer", "startContainer"),
    *("poststart", "poststop"),
)
_LONGEST_HOOK_S = 1_000_000  # poll(2) counts milliseconds in an int
PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}


def _device(device: "Device") -> "DevicePlan":
    kind = _DEVICE_TYPES.get(device["type"])
    if kind is None:
        raise InvalidSpec(f"device {device['path']}: unknown type {device['type']!r}")
    number = os.makedev(device.get("major", 0), device.get("minor", 0))
    mode = stat.S_IMODE(device.get("fileMode", 0o666))
    return device["path"], kind, number, mode, device.get("uid", 0), device.get("gid", 0)


def _devices(own: "list[Device]") -> "list[DevicePlan]":
    """Return the nodes to make; a device of the spec replaces the usual one of its path."""
    return list({d["path"]: _device(d) for d in (*defaults.devices(), *own)}.values())


def _namespaces(wanted: "list[Namespace]") -> "tuple[int, list[tuple[str, int]]]":
    """Return the clone flags of the namespaces to make, and (path, flag) of those to join."""
    flags, join = 0, []
    for namespace in wanted:
        kind = namespace["type"]
        if kind not in NAMESPACES:
            raise InvalidSpec(f"{kind} namespace: no such type")
        path = namespace.get("path")
        if path:
            join.append((path, NAMESPACES[kind]))
        else:
            flags |= NAMESPACES[kind]
    return flags, join


def id_map(linux: "Linux") -> "IdMapPlan | None":
    """Return the lines of uid_map and gid_map, or None where there are none."""
    return mapping_lines(linux.get("uidMappings", []), linux.get("gidMappings", []))


def _time_offsets(offsets: "dict[str, TimeOffset]") -> str:
    return "".join(
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        for clock, offset in sorted(offsets.items())
    )


def hook_plan(hook: "Hook") -> "HookPlan":
    """Return a hook as it is run."""
    args = list(hook.get("args") or [hook["path"]])
    timeout_s = min(hook.get("timeout", 0), _LONGEST_HOOK_S)
    return hook["path"], args, hook.get("env"), timeout_s


def launch_plan(spec: "Spec", root: "RootPlan", *, name: str, user: str = "") -> "LaunchPlan":
    """Return the plan that runs `spec` on `root`.

    name: of the container's cgroup. user: as USER writes it, resolved in the container; empty
    takes the numbers of the spec.
    Raises InvalidSpec when the spec cannot be run.
    """
    linux = spec.get("linux", {})
    namespaces, join = _namespaces(linux.get("namespaces", []))
    kinds = namespaces | sum(kind for _, kind in join)
    personality = linux.get("personality")
    late = c.CLONE_NEWCGROUP  # only after the move into the leaf is its root the leaf
    if not kinds & c.CLONE_NEWNS:
        namespaces |= c.CLONE_NEWNS
    mappings = id_map(linux)
    label = linux.get("mountLabel", "")
    mounts = [mount_of(mount, mappings, label) for mount in spec.get("mounts", [])]
    # The host's /dev has what it has, and nothing may be made there.
    bound = any(plan["target"].rstrip("/") == "/dev" and plan["kind"] == "bind" for plan in mounts)
    return {
        **process_plan(spec["process"], user),
        "memory_policy": memory_policy(linux.get("memoryPolicy")),
        "caller": os.getpid(),
        "anchor": root["base"],
        "join": join,
        "id_map": mappings,
        "time_offsets": _time_offsets(linux.get("timeOffsets", {})),
        "root_propagation": PROPAGATION.get(linux.get("rootfsPropagation", ""), 0),
        "bind_devices": bool(kinds & c.CLONE_NEWUSER),
        "personality": PERSONALITIES[personality["domain"]] if personality else None,
        "root": root,
        "namespaces": namespaces & ~late,
        "late_namespaces": namespaces & late,
        "cgroup": cgroup_plan(spec, name),
        "cgroup_view": [],
        "mounts": mounts,
        "devices": [] if bound else _devices(linux.get("devices", [])),
        "device_trees": [],
        "links": [] if bound else list(defaults.DEV_LINKS),
        "no_pivot": False,
        "chroot": False,
        "shares_processes": False,
        "masked": list(linux.get("maskedPaths", [])),
        "read_only_paths": list(linux.get("readonlyPaths", [])),
        "hostname": spec.get("hostname", ""),
        "domainname": spec.get("domainname", ""),
        "loopback_up": bool(namespaces & c.CLONE_NEWNET),
        "rdt": None,
        "net_devices": [
            (name, device.get("name") or name)
            for name, device in sorted(linux.get("netDevices", {}).items())
        ],
        "sysctl": sorted(linux.get("sysctl", {}).items()),
        "hooks": {
            moment: [hook_plan(hook) for hook in hooks]  # type: ignore[attr-defined]
            for moment, hooks in spec.get("hooks", {}).items()
            if moment in HOOK_MOMENTS
        },
        "state": {},
        "start": -1,
        "new_keyring": True,
        "detached": False,
    }
