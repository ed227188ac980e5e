"""From a bundle on disk to the plan of its container: everything that can fail before anything
is touched. Imported by the OCI command line at every start, so it imports little."""

import fcntl
import os
from binascii import crc32

from runtime import defaults, jsontext
from runtime.errors import InvalidSpec
from runtime.linux import constants as c
from runtime.linux.seccomp_cache import cached_filter
from runtime.planning import NAMESPACES, launch_plan
from runtime.rootfs import directory_plan
from runtime.validate import unknown_capabilities, validate
from store.usernamespace import in_first_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.plan import LaunchPlan, ProcessPlan

_FILTER_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": c.SECCOMP_FILTER_FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": c.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": c.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": c.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}
# Of cgroups without a cgroupsPath; not that of builds and runs, who sweep theirs.
DEFAULT_CGROUP = "/pybuild-runtime"


def load_config(bundle: str) -> "tuple[dict[str, Any], bytes, list[str]]":
    """Return the config.json of a bundle, valid, its bytes, and what of it is left out.

    Raises InvalidSpec.
    """
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InvalidSpec(f"read {path}: {str(error.strerror).lower()}") from error
    try:
        spec = jsontext.loads(data)
        if b"\\ud" in data.lower():
            _check_texts(spec)
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"{path}: {error}") from error
    unknown = unknown_capabilities(spec)
    left_out = f"process.capabilities: unknown, ignored: {', '.join(unknown)}"
    return validate(spec), data, [left_out] if unknown else []


def _check_texts(value: object) -> None:
    """Raise ValueError where an escape sequence is half of a character, which no path can have."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for item in (*value, *value.values()):
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def container_plan(
    spec: "dict[str, Any]", bundle: str, container_id: str, cache: str
) -> "LaunchPlan":
    """Return the plan of a container that is created now and started later.

    bundle: absolute. cache: folder of compiled filters. Raises InvalidSpec.
    """
    linux = spec.setdefault("linux", {})
    # Containers of different roots may bear one ID.
    default = f"{DEFAULT_CGROUP}-{container_id}-{crc32(os.fsencode(cache)):08x}"
    linux["cgroupsPath"] = linux.get("cgroupsPath") or default
    resources = linux.setdefault("resources", {})
    # As runc: nothing is allowed that is not asked for, but what every container has.
    resources["devices"] = [
        defaults.DENY_ALL_DEVICES,
        *resources.get("devices", []),
        *defaults.usual_device_rules(),
    ]
    root = spec["root"]
    root_path = os.path.join(bundle, root["path"])
    if not os.path.isdir(root_path):
        raise InvalidSpec(f"root.path: {root_path} is no directory")
    check_namespaces(linux.get("namespaces", []))
    plan = launch_plan(
        spec,  # type: ignore[arg-type]
        directory_plan(os.path.realpath(root_path), read_only=root.get("readonly", False)),
        name=container_id,
    )
    for mount in plan["mounts"]:
        if mount["kind"] == "bind":
            mount["source"] = os.path.join(bundle, mount["source"])
    if not in_first_user_namespace():
        # As below podman without root: no node that could be made works, the host's are shown with
        # what the host lets the user do, and rules are not his to set.
        plan["bind_devices"] = True
        plan["cgroup"]["v1_devices"], plan["cgroup"]["device_program"] = [], b""
    plan["cgroup"]["kept"] = True
    plan["cgroup"]["owner"] = _cgroup_owner(plan, spec)
    plan["detached"] = plan["strict"] = True
    plan["state"] = {
        "ociVersion": spec["ociVersion"],
        "id": container_id,
        "bundle": bundle,
        "annotations": spec.get("annotations") or {},
    }
    if linux.get("intelRdt") is not None:
        from runtime.resctrl import rdt_plan

        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            plan["rdt"] = rdt_plan(linux["intelRdt"], file.read(), container_id)
    add_filter(plan, spec, cache)
    return plan


def _cgroup_owner(plan: "LaunchPlan", spec: "dict[str, Any]") -> int:
    """Return the host's uid of a process that is to govern the container's cgroups, else -1.

    That is one in namespaces of its own, of users and of cgroups, who sees its cgroups writable: a
    systemd in there. Source: runc, libcontainer/specconv, "OwnerUID".
    """
    writable = any(
        mount["kind"] == "cgroup"
        and mount["target"].strip("/") == "sys/fs/cgroup"
        and not mount["attributes"] & c.MOUNT_ATTR_RDONLY
        for mount in plan["mounts"]
    )
    if not (writable and plan["late_namespaces"] & c.CLONE_NEWCGROUP):
        return -1
    uid = spec["process"].get("user", {}).get("uid", 0)
    for line in spec["linux"].get("uidMappings") or []:
        if plan["namespaces"] & c.CLONE_NEWUSER and 0 <= uid - line["containerID"] < line["size"]:
            return int(line["hostID"] + uid - line["containerID"])
    return -1


def check_namespaces(namespaces: "list[dict[str, str]]") -> None:
    """Raise InvalidSpec where a namespace that is to be joined is none, or of another kind."""
    for number, namespace in enumerate(namespaces):
        path, kind = namespace.get("path"), namespace["type"]
        if not path:
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                found = fcntl.ioctl(fd, c.NS_GET_NSTYPE)
            except OSError:
                found = 0  # no namespace at all
            finally:
                os.close(fd)
        except OSError as error:
            text = f"linux.namespaces[{number}].path: {path}: {str(error.strerror).lower()}"
            raise InvalidSpec(f"config.json: {text}") from error
        if found != NAMESPACES[kind]:
            text = f"linux.namespaces[{number}].path: {path} is no {kind} namespace"
            raise InvalidSpec(f"config.json: {text}")


def add_filter(plan: "ProcessPlan", spec: "dict[str, Any]", cache: str) -> None:
    """Put the spec's seccomp filter, compiled, into the plan of a process."""
    profile = (spec.get("linux") or {}).get("seccomp")
    if not profile or (
        profile["defaultAction"] == "SCMP_ACT_ALLOW" and not profile.get("syscalls")
    ):
        return
    plan["seccomp"] = cached_filter(cache, profile, ())
    plan["seccomp_load"] = {
        "flags": sum(_FILTER_FLAGS[flag] for flag in set(profile.get("flags") or [])),
        "listener": profile.get("listenerPath", "") if _notifies(profile) else "",
        "metadata": profile.get("listenerMetadata", ""),
    }


def _notifies(profile: "dict[str, Any]") -> bool:
    rules = profile.get("syscalls") or []
    return any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in rules)
