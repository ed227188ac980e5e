"""A process and the container around it, as values; and their description as an OCI Spec."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Literal

from runtime import defaults
from store.mount import OverlayMount
from values.classes import dataclass, field

if TYPE_CHECKING:
    from runtime.spec import Device, DeviceRule, Namespace, NamespaceType, Resources, Rlimit, Spec

USUAL_SHM_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path, or a path inside another snapshot, shown in the container.

    source: absolute host path, or a snapshot's mount. subpath: below that snapshot's root.
    read_only: also for what is mounted below it, where `recursive`.
    """

    source: str | OverlayMount
    target: str
    read_only: bool = False
    subpath: str = ""
    recursive: bool = True


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty file system in memory.

    size_bytes: 0 is half of the host's memory. options: more of tmpfs's own, or mount options.
    """

    target: str
    size_bytes: int = 0
    mode: int = 0o1777
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileMount:
    """A file of given content that exists in memory only: secrets, here-documents."""

    target: str
    data: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    read_only: bool = True


def _no_limits() -> Resources:
    return {}


@dataclass(frozen=True, slots=True)
class Execution:
    """A process and the container around it.

    user: as USER writes it (`name|uid[:group]`), resolved in the container's own account files.
    binds: mounted in the order of their targets' depth, after the usual file systems.
    extra_hosts: (name, address) pairs of /etc/hosts. dns: name servers instead of the host's.
    lock_fds: inherited by the launcher, so held until the container is gone.
    create_cwd: make a missing working directory, as `docker run` does. own_cwd: it is the user's
    then, as in a build.
    privileged: all capabilities, no seccomp, no masks, all devices.
    seccomp: docker's default profile, none, or one of one's own.
    stdin: descriptor to read from; None is an empty input.
    tty: the process gets a terminal of `window` (rows, columns); stdout and stderr are then one.
    network_namespace: path of a prepared one, instead of `network`; one of `lock_fds` is written
    /proc/self/fd/N. network_address: the container's own there. network_resolver: forwards to the
    host's.
    additional_groups: of the user; names are looked up in the container's own group file.
    devices, device_rules: more nodes in /dev, and what may be opened. system_paths: whether
    docker's paths of /proc and /sys are masked and read-only. apparmor: name of a loaded profile.
    isolation: `shared` is without a /proc and processes of its own, `chroot` without any namespaces
    and mounts, on a snapshot that is a directory.
    cgroup_parent: below which the container's cgroup is made, in the place of the usual one.
    timeout_s: how long until `execute` kills it.
    filters: folder where compiled seccomp filters are kept; empty: nowhere.
    """

    mount: OverlayMount
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    domainname: str = ""
    network: Literal["host", "none"] = "host"
    network_namespace: str = ""
    network_address: str = ""
    network_resolver: str = ""
    tty: bool = False
    window: tuple[int, int] = (0, 0)
    stdin: int | None = None
    read_only: bool = False
    binds: tuple[Bind | Tmpfs | FileMount, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    lock_fds: tuple[int, ...] = ()
    seccomp: bool | dict[str, object] = True
    capabilities: tuple[str, ...] = defaults.CAPABILITIES
    privileged: bool = False
    no_new_privileges: bool = False
    create_cwd: bool = False
    own_cwd: bool = False
    additional_groups: tuple[int | str, ...] = ()
    limits: tuple[Rlimit, ...] = ()
    resources: Resources = field(default_factory=_no_limits)
    sysctl: tuple[tuple[str, str], ...] = ()
    shm_bytes: int = USUAL_SHM_BYTES
    oom_score_adj: int | None = None
    devices: tuple[Device, ...] = ()
    device_rules: tuple[DeviceRule, ...] = ()
    system_paths: bool = True
    apparmor: str = ""
    cgroup_parent: str = ""
    isolation: Literal["namespaces", "shared", "chroot"] = "namespaces"
    timeout_s: float | None = None
    filters: str = ""


def _namespaces(execution: Execution) -> list[Namespace]:
    kinds: list[NamespaceType] = ["pid", "mount", "ipc", "uts", "cgroup"]
    namespaces: list[Namespace] = [{"type": kind} for kind in kinds]
    if execution.network_namespace:
        namespaces.append({"type": "network", "path": execution.network_namespace})
    elif execution.network == "none":
        namespaces.append({"type": "network"})
    return namespaces


def spec_of(execution: Execution) -> Spec:
    """Return the OCI description of `execution`, but for its own binds and generated files."""
    privileged = execution.privileged
    guarded = execution.system_paths and not privileged
    names = list(defaults.ALL_CAPABILITIES if privileged else execution.capabilities)
    resources: Resources = {**execution.resources}
    if not privileged:
        resources.setdefault("devices", [*defaults.device_rules(), *execution.device_rules])
    numbers = [group for group in execution.additional_groups if isinstance(group, int)]
    spec: Spec = {
        "ociVersion": "1.1.0",
        "root": {"path": "rootfs", "readonly": execution.read_only},
        "process": {
            "args": list(execution.args),
            "cwd": execution.cwd or "/",
            "env": list(execution.env),
            "terminal": execution.tty,
            "consoleSize": {"height": execution.window[0], "width": execution.window[1]},
            "user": {"uid": 0, "gid": 0, "additionalGids": numbers},
            "capabilities": {"bounding": names, "effective": names, "permitted": names},
            "noNewPrivileges": execution.no_new_privileges,
            "rlimits": list(execution.limits),
        },
        "hostname": execution.hostname,
        "domainname": execution.domainname,
        "mounts": defaults.mounts(shm_bytes=execution.shm_bytes, privileged=privileged),
        "linux": {
            "namespaces": _namespaces(execution),
            "devices": host_devices() if privileged else list(execution.devices),
            "resources": resources,
            "maskedPaths": list(defaults.MASKED_PATHS) if guarded else [],
            "readonlyPaths": list(defaults.READ_ONLY_PATHS) if guarded else [],
            "sysctl": dict(execution.sysctl),
        },
    }
    if execution.apparmor:
        spec["process"]["apparmorProfile"] = execution.apparmor
    if execution.oom_score_adj is not None:
        spec["process"]["oomScoreAdj"] = execution.oom_score_adj
    return spec


def host_devices() -> list[Device]:
    """Return the device nodes at the top of the host's /dev, for a privileged container."""
    found: list[Device] = []
    with os.scandir("/dev") as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            status = entry.stat(follow_symlinks=False)
            kind = "c" if stat.S_ISCHR(status.st_mode) else "b"
            if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
                continue
            if entry.name in ("console", "ptmx"):
                continue  # the container's own
            found.append(
                {
                    "path": entry.path,
                    "type": kind,
                    "major": os.major(status.st_rdev),
                    "minor": os.minor(status.st_rdev),
                    "fileMode": stat.S_IMODE(status.st_mode),
                    "uid": status.st_uid,
                    "gid": status.st_gid,
                }
            )
    return found
