"""Says whether a config.json is one that can be run, before anything is touched. Pure, but for
what the host has of AppArmor and SELinux.

What the runtime-spec calls an error is an InvalidSpec, whose message begins with the field's path.
Unknown fields are ignored, as the spec says; a null counts as absent, as Go's does.
"""

from runtime import schema
from runtime.errors import InvalidSpec
from runtime.process import number_list
from runtime.security_modules import check_label, check_profile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni")
) | {"kernel.shm_rmid_forced"}

_LONGEST_DEVICE = 15  # IFNAMSIZ without its NUL


def _bad(path: str, text: str) -> InvalidSpec:
    return InvalidSpec(f"config.json: {path}: {text}" if path else f"config.json: {text}")


def walk(value: "Any", kind: "schema.Kind", path: str) -> "Any":
    """Return `value`, of the shape `kind`, without nulls. Raises InvalidSpec naming `path`."""
    return _WALKERS[kind[0]](value, kind, path)


def _object(value: "Any", kind: "schema.Kind", path: str) -> "dict[str, Any]":
    if not isinstance(value, dict):
        raise _bad(path, "not an object")
    result = {key: item for key, item in value.items() if item is not None}
    for key, inner in kind[1].items():
        name = key.rstrip("!")
        if name in result:
            result[name] = walk(result[name], inner, f"{path}.{name}" if path else name)
        elif name is not key and key.endswith("!"):
            raise _bad(f"{path}.{name}" if path else name, "is required")
    return result


def _list(value: "Any", kind: "schema.Kind", path: str) -> "list[Any]":
    if not isinstance(value, list):
        raise _bad(path, "not a list")
    inner = kind[1]
    if inner == schema.TEXT and all(type(item) is str and "\0" not in item for item in value):
        return value
    return [walk(item, inner, f"{path}[{number}]") for number, item in enumerate(value)]


def _map(value: "Any", kind: "schema.Kind", path: str) -> "dict[str, Any]":
    if not isinstance(value, dict):
        raise _bad(path, "not an object")
    return {key: walk(item, kind[1], f"{path}[{key!r}]") for key, item in value.items()}


def _text(value: "Any", _kind: "schema.Kind", path: str) -> str:
    if not isinstance(value, str):
        raise _bad(path, "not a string")
    if "\0" in value:
        raise _bad(path, "contains a NUL")
    return value


def _path(value: "Any", kind: "schema.Kind", path: str) -> str:
    text = _text(value, kind, path)
    if not text.startswith("/"):
        raise _bad(path, f"{text!r} is not an absolute path")
    return text


def _bool(value: "Any", _kind: "schema.Kind", path: str) -> bool:
    if not isinstance(value, bool):
        raise _bad(path, "neither true nor false")
    return value


def _number(value: "Any", kind: "schema.Kind", path: str) -> int:
    if type(value) is not int:
        raise _bad(path, "not a whole number")
    if not kind[1] <= value <= kind[2]:
        raise _bad(path, f"{value} is not between {kind[1]} and {kind[2]}")
    return value


def _word(value: "Any", kind: "schema.Kind", path: str) -> str:
    text = _text(value, kind, path)
    if text not in kind[1] or (len(text) != 1 and isinstance(kind[1], str)):
        raise _bad(path, f"{text!r} is none of {', '.join(kind[1])}")
    return text


def _letters(value: "Any", kind: "schema.Kind", path: str) -> str:
    text = _text(value, kind, path)
    if not set(text) <= set(kind[1]):
        raise _bad(path, f"{text!r} has other letters than {kind[1]}")
    return text


def _capability(value: "Any", kind: "schema.Kind", path: str) -> str:
    return _text(value, kind, path)


def _numbers(value: "Any", kind: "schema.Kind", path: str) -> str:
    text = _text(value, kind, path)
    try:
        number_list(text) if text else None
    except ValueError:
        raise _bad(path, f"{text!r} is no list of {kind[1]}") from None
    return text


def _page_size(value: "Any", kind: "schema.Kind", path: str) -> str:
    text = _text(value, kind, path)
    if not text[:-2].isdigit() or text[-2:] not in ("KB", "MB", "GB"):
        raise _bad(path, f"{text!r} is no size of pages, as 2MB")
    return text


def _version(value: "Any", kind: "schema.Kind", path: str) -> str:
    text = _text(value, kind, path)
    parts = text.partition("-")[0].partition("+")[0].split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise _bad(path, f"{text!r} is no version")
    if parts[0] != "1":
        raise _bad(path, f"version {text}: only 1.x is supported")
    return text


def _refused(value: "Any", kind: "schema.Kind", path: str) -> None:
    if value:
        raise _bad(path, kind[1])


_WALKERS = {
    "object": _object,
    "list": _list,
    "map": _map,
    "text": _text,
    "path": _path,
    "bool": _bool,
    "number": _number,
    "word": _word,
    "letters": _letters,
    "capability": _capability,
    "numbers": _numbers,
    "page size": _page_size,
    "version": _version,
    "refused": _refused,
}


def validate(value: "Any") -> "dict[str, Any]":
    """Return the config.json `value`, checked, without nulls and unknown capabilities.

    Raises InvalidSpec.
    """
    spec: dict[str, Any] = walk(value, schema.CONFIG, "")
    linux = spec.setdefault("linux", {})
    check_process(spec["process"], "process")
    kinds = _check_namespaces(linux)
    _check_names(spec, kinds)
    _check_mappings(linux, kinds)
    _check_mounts(spec.get("mounts", []))
    _check_sysctl(linux.get("sysctl", {}), kinds)
    for number, device in enumerate(linux.get("devices", [])):
        if device["type"] != "p" and not ("major" in device and "minor" in device):
            raise _bad(f"linux.devices[{number}]", "major and minor are required")
    check_resources(linux.get("resources", {}), "linux.resources")
    _check_seccomp(linux.get("seccomp", {}))
    if linux.get("personality", {}).get("flags"):
        raise _bad("linux.personality.flags", "there are none yet")
    check_label(linux.get("mountLabel", ""), "linux.mountLabel")
    if "intelRdt" in linux:
        _check_rdt(linux["intelRdt"])
    _check_memory_policy(linux.get("memoryPolicy"))
    _check_net_devices(linux.get("netDevices", {}), kinds)
    if any(not key for key in spec.get("annotations", {})):
        raise _bad("annotations", "an empty key")
    return spec


def check_process(process: "dict[str, Any]", path: str) -> None:
    """Check a process that has its shape. Raises InvalidSpec."""
    user = process.setdefault("user", {})
    user.setdefault("uid", 0)
    user.setdefault("gid", 0)
    if not process["args"]:
        raise _bad(f"{path}.args", "is empty")
    sets = process.get("capabilities", {})
    for name in schema.CAPABILITY_SETS:
        # The spec: a capability that cannot be granted is a warning, never an error.
        if name in sets:
            sets[name] = [cap for cap in sets[name] if cap in schema.ALL_CAPABILITIES]
    # Ambient ones that are not inheritable, which Buildah asks for, are left out as elsewhere.
    lacking = set(sets.get("effective", [])) - set(sets.get("permitted", []))
    if lacking:
        text = f"{', '.join(sorted(lacking))} is not in permitted: the kernel refuses that"
        raise _bad(f"{path}.capabilities.effective", text)
    seen: set[str] = set()
    for number, limit in enumerate(process.get("rlimits", [])):
        if limit["type"] in seen:
            raise _bad(f"{path}.rlimits[{number}]", f"{limit['type']} is there twice")
        if limit["soft"] > limit["hard"]:
            raise _bad(f"{path}.rlimits[{number}]", "soft is above hard")
        seen.add(limit["type"])
    scheduler = process.get("scheduler")
    if scheduler:
        _check_scheduler(scheduler, f"{path}.scheduler")
    check_profile(process.get("apparmorProfile", ""), f"{path}.apparmorProfile")
    check_label(process.get("selinuxLabel", ""), f"{path}.selinuxLabel")


def unknown_capabilities(value: "Any") -> "list[str]":
    """Return the capabilities in a config.json, unchecked yet, that no kernel of ours knows."""
    process = value.get("process") if isinstance(value, dict) else None
    sets = process.get("capabilities") if isinstance(process, dict) else None
    lists = sets.values() if isinstance(sets, dict) else []
    found = (name for names in lists if isinstance(names, list) for name in names)
    names = {name for name in found if isinstance(name, str)}
    return sorted(str(name) for name in names if name not in schema.ALL_CAPABILITIES)


def _check_scheduler(scheduler: "dict[str, Any]", path: str) -> None:
    policy = scheduler["policy"]
    if policy == "SCHED_ISO":
        raise _bad(f"{path}.policy", "Linux has no SCHED_ISO")
    if scheduler.get("priority") and policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise _bad(f"{path}.priority", f"{policy} has none")
    for name in ("runtime", "deadline", "period"):
        if scheduler.get(name) and policy != "SCHED_DEADLINE":
            raise _bad(f"{path}.{name}", f"{policy} has none")


def _check_namespaces(linux: "dict[str, Any]") -> "dict[str, str]":
    """Return type → path (empty: a new one)."""
    kinds: dict[str, str] = {}
    for number, namespace in enumerate(linux.get("namespaces", [])):
        if namespace["type"] in kinds:
            raise _bad(f"linux.namespaces[{number}]", f"{namespace['type']} is there twice")
        kinds[namespace["type"]] = namespace.get("path", "")
    return kinds


def _check_names(spec: "dict[str, Any]", kinds: "dict[str, str]") -> None:
    linux = spec["linux"]
    for name in ("hostname", "domainname"):
        if spec.get(name) and "uts" not in kinds:
            raise _bad(name, "cannot be set without a uts namespace of its own")
        if len(spec.get(name, "").encode()) > 64:
            raise _bad(name, "is longer than 64 bytes")
    for name in ("maskedPaths", "readonlyPaths"):
        if linux.get(name) and "mount" not in kinds:
            raise _bad(f"linux.{name}", "need a mount namespace")
    if linux.get("timeOffsets") and kinds.get("time", "joined"):
        raise _bad("linux.timeOffsets", "need a new time namespace")
    for clock in linux.get("timeOffsets", {}):
        if clock not in ("monotonic", "boottime"):
            raise _bad("linux.timeOffsets", f"{clock!r} is neither monotonic nor boottime")


def _check_mappings(linux: "dict[str, Any]", kinds: "dict[str, str]") -> None:
    for name in ("uidMappings", "gidMappings"):
        if linux.get(name) and "user" not in kinds:
            raise _bad(f"linux.{name}", "need a user namespace")
        if kinds.get("user") and linux.get(name):
            raise _bad(f"linux.{name}", "the user namespace that is joined has its own")
        if kinds.get("user", "none") == "" and not linux.get(name):
            raise _bad(f"linux.{name}", "are required for a new user namespace")


def _check_mounts(mounts: "list[dict[str, Any]]") -> None:
    for number, mount in enumerate(mounts):
        path = f"mounts[{number}]"
        if not mount["destination"]:
            raise _bad(f"{path}.destination", "is empty")
        if ".." in mount["destination"].split("/"):
            raise _bad(f"{path}.destination", "contains '..'")
        options = mount.get("options", [])
        bind = mount.get("type") == "bind" or "bind" in options or "rbind" in options
        mapped = "uidMappings" in mount, "gidMappings" in mount
        if mapped[0] != mapped[1]:
            raise _bad(path, "uidMappings and gidMappings go together")
        if (mapped[0] or "idmap" in options or "ridmap" in options) and not bind:
            raise _bad(path, "only a bind mount can be idmapped")
        if bind and not mount.get("source"):
            raise _bad(f"{path}.source", "is required for a bind mount")
        if not bind and not mount.get("type") and "remount" not in options:
            raise _bad(f"{path}.type", "is required")
        if "tmpcopyup" in options and mount.get("type") != "tmpfs":
            raise _bad(path, "tmpcopyup is for a tmpfs")


def _check_sysctl(sysctl: "dict[str, str]", kinds: "dict[str, str]") -> None:
    """Source: runc, validator, sysctl."""
    for key in sysctl:
        name, path = key.replace("/", "."), f"linux.sysctl[{key!r}]"
        if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
            needed = "ipc"
        elif name.startswith("net."):
            needed = "network"
        elif name == "kernel.domainname":
            needed = "uts"
        elif name.startswith("user."):
            needed = "user"
        elif name == "kernel.hostname":
            raise _bad(path, "is what hostname is for")
        else:
            raise _bad(path, "belongs to the whole host, to no namespace")
        if needed not in kinds:
            raise _bad(path, f"cannot be set without a {needed} namespace of its own")
        if ".." in key.split("/"):
            raise _bad(path, "contains '..'")


def _check_rdt(rdt: "dict[str, Any]") -> None:
    """Source: runtime-spec config-linux.md, "IntelRdt"."""
    path = "linux.intelRdt"
    closid = rdt.get("closID", "")
    if closid in (".", "..") or ("/" in closid and closid != "/") or "\n" in closid:
        raise _bad(f"{path}.closID", f"{closid!r} is no name of a folder")
    lines = [(f"schemata[{number}]", line) for number, line in enumerate(rdt.get("schemata", []))]
    lines += [(name, rdt.get(name, "")) for name in ("l3CacheSchema", "memBwSchema")]
    for name, line in lines:
        if "\n" in line:
            raise _bad(f"{path}.{name}", "is more than one line")
    if rdt.get("memBwSchema", "MB:")[:3] != "MB:":
        raise _bad(f"{path}.memBwSchema", f"{rdt['memBwSchema']!r} does not begin with MB:")


def _check_memory_policy(policy: "dict[str, Any] | None") -> None:
    """Source: set_mempolicy(2)."""
    if not policy:
        return
    mode, flags = policy["mode"], policy.get("flags", [])
    takes_nodes = mode not in ("MPOL_DEFAULT", "MPOL_LOCAL")
    if policy.get("nodes") and not takes_nodes:
        raise _bad("linux.memoryPolicy.nodes", f"{mode} has none")
    if not policy.get("nodes") and takes_nodes and mode != "MPOL_PREFERRED":
        raise _bad("linux.memoryPolicy.nodes", f"are required for {mode}")
    if "MPOL_F_STATIC_NODES" in flags and "MPOL_F_RELATIVE_NODES" in flags:
        raise _bad("linux.memoryPolicy.flags", "nodes are either static or relative")


def _check_net_devices(devices: "dict[str, dict[str, str]]", kinds: "dict[str, str]") -> None:
    """Source: runc, validator, netDevices; the kernel's dev_valid_name()."""
    if devices and "network" not in kinds:
        raise _bad("linux.netDevices", "need a network namespace")
    seen = set()
    for name, device in devices.items():
        path = f"linux.netDevices[{name!r}]"
        inside = device.get("name") or name
        for text, where in ((name, path), (inside, f"{path}.name")):
            bad = text in ("", ".", "..") or any(letter in "/:" for letter in text)
            if bad or len(text.encode()) > _LONGEST_DEVICE or text.split() != [text]:
                raise _bad(where, f"{text!r} is no name of a network device")
        if inside in seen:
            raise _bad(f"{path}.name", f"{inside} is there twice")
        seen.add(inside)


def check_resources(resources: "dict[str, Any]", path: str) -> None:
    """Check resources that have their shape. Raises InvalidSpec."""
    memory = resources.get("memory", {})
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if limit > 0 and 0 < swap < limit:
        raise _bad(f"{path}.memory.swap", f"{swap} is below the limit, which it includes")
    if limit > 0 and memory.get("reservation", 0) > limit:
        raise _bad(f"{path}.memory.reservation", "is above the limit")
    for number, rule in enumerate(resources.get("devices", [])):
        for name in ("major", "minor"):
            if rule.get(name, 0) < -1:
                raise _bad(f"{path}.devices[{number}].{name}", f"{rule[name]} is no number")
    block = resources.get("blockIO", {})
    if 0 < block.get("weight", 0) < 10:
        raise _bad(f"{path}.blockIO.weight", "is below 10")
    for key in resources.get("unified", {}):
        if "/" in key or key in ("", ".", ".."):
            raise _bad(f"{path}.unified", f"{key!r} is no file of a cgroup")


def _check_seccomp(seccomp: "dict[str, Any]") -> None:
    path = "linux.seccomp"
    if seccomp.get("defaultAction") == "SCMP_ACT_NOTIFY":
        raise _bad(f"{path}.defaultAction", "cannot be SCMP_ACT_NOTIFY")
    for number, rule in enumerate(seccomp.get("syscalls", [])):
        at = f"{path}.syscalls[{number}]"
        if not rule["names"]:
            raise _bad(f"{at}.names", "is empty")
        if rule["action"] != "SCMP_ACT_NOTIFY":
            continue
        if "write" in rule["names"]:
            raise _bad(at, "SCMP_ACT_NOTIFY cannot be used for the write syscall")
        if not seccomp.get("listenerPath"):
            raise _bad(f"{path}.listenerPath", "is required for SCMP_ACT_NOTIFY")
