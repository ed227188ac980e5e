"""spec: write a config.json to begin with."""

import os

from runtime import defaults
from runtime.command.context import Context
from runtime.command.options import Options, Parsed, UsageError
from runtime.container import OCI_VERSION
from runtime.errors import RuntimeFailure
from runtime.launch.cgroupfiles import hierarchies
from runtime.spec import Mount, NamespaceType, Spec, to_json

USAGE = "[--bundle DIR] [--rootless]"
OPTIONS: Options = {"bundle": ("b", "text"), "rootless": ("", "flag")}
_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def run(parsed: Parsed, context: Context) -> int:
    """Write config.json into the bundle's folder; one that is there stays."""
    del context
    if parsed.words:
        raise UsageError(f"spec: no arguments are expected, not {parsed.words[0]!r}")
    path = os.path.join(parsed.text("bundle") or ".", "config.json")
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise RuntimeFailure(f"file {path} exists. Remove it first") from None
    with os.fdopen(fd, "wb") as file:
        spec = rootless(example()) if parsed.flag("rootless") else example()
        file.write(to_json(spec) + b"\n")
    return 0


def _has_only_v2() -> bool:
    # v1 shows a cgroup namespace's own paths in another form than its callers expect.
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return list(hierarchies(file.read())) == ["unified"]


def rootless(spec: Spec) -> Spec:
    """Return `spec` for an ordinary user without subordinate ids. Source: runc, ToRootless."""
    linux = spec["linux"]
    kept = [entry for entry in linux["namespaces"] if entry["type"] != "network"]
    linux["namespaces"] = [*kept, {"type": "user"}]
    linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    del linux["resources"]
    spec["mounts"] = [_without_rights(mount) for mount in spec["mounts"]]
    return spec


def _without_rights(mount: Mount) -> Mount:
    """Return a mount as it can be had in a user namespace that has one id and no network."""
    if mount["destination"] == "/sys":
        options = ["rbind", "nosuid", "noexec", "nodev", "ro"]
        return {"destination": "/sys", "type": "none", "source": "/sys", "options": options}
    options = [
        option for option in mount.get("options", []) if not option.startswith(("uid=", "gid="))
    ]
    return {**mount, "options": options}


def example() -> Spec:
    """Return the container that runc's `spec` describes: a shell on a read-only root."""
    kinds: list[NamespaceType] = ["pid", "network", "ipc", "uts", "mount"]
    if _has_only_v2():
        kinds.append("cgroup")
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [f"PATH={defaults.PATH}", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": _CAPABILITIES,
                "effective": _CAPABILITIES,
                "permitted": _CAPABILITIES,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pybuild",
        "mounts": defaults.mounts(),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": list(defaults.MASKED_PATHS),
            "readonlyPaths": list(defaults.READ_ONLY_PATHS),
        },
    }
