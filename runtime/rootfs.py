"""File systems of a plan: a root described by the store, and config.json's mounts. Pure."""

from typing import Literal, TypedDict

from runtime.errors import InvalidSpec
from runtime.linux import constants as c
from runtime.spec import Mount
from store.mount import OverlayMount


class RootPlan(TypedDict):
    """A root file system: lower directories below `base`, topmost first, under `upper`."""

    base: str
    lowers: list[str]
    upper: str | None
    work: str | None
    volatile: bool
    read_only: bool
    no_devices: bool


class MountPlan(TypedDict):
    """One mount. Which fields count depends on `kind`.

    new: a file system of `type`. bind: host path `source`. overlay: path `source` inside
    `overlay`. file: a file of content `data` and `owner` (mode, uid, gid). cgroup: the container's
    own cgroups. fd: where the launcher keeps a source that it opened.
    """

    kind: Literal["new", "bind", "overlay", "file", "cgroup"]
    target: str
    type: str
    source: str
    options: list[tuple[str, str | None]]
    attributes: int
    clear: int
    recursive: bool
    propagation: int
    data: bytes
    owner: tuple[int, int, int]
    fd: int
    overlay: RootPlan | None


_RDONLY, _ATIME = c.MOUNT_ATTR_RDONLY, c.MOUNT_ATTR__ATIME
# option -> (attributes set, attributes cleared)
_ATTRIBUTES = {
    "defaults": (0, 0),
    "ro": (_RDONLY, 0),
    "rw": (0, _RDONLY),
    "suid": (0, c.MOUNT_ATTR_NOSUID),
    "nosuid": (c.MOUNT_ATTR_NOSUID, 0),
    "dev": (0, c.MOUNT_ATTR_NODEV),
    "nodev": (c.MOUNT_ATTR_NODEV, 0),
    "exec": (0, c.MOUNT_ATTR_NOEXEC),
    "noexec": (c.MOUNT_ATTR_NOEXEC, 0),
    "relatime": (0, _ATIME),
    "norelatime": (0, 0),
    "noatime": (c.MOUNT_ATTR_NOATIME, _ATIME),
    "strictatime": (c.MOUNT_ATTR_STRICTATIME, _ATIME),
    "nostrictatime": (0, 0),
    "nodiratime": (c.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, c.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (c.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "rro": (_RDONLY, 0),
    "rrw": (0, _RDONLY),
    "rnosuid": (c.MOUNT_ATTR_NOSUID, 0),
    "rnodev": (c.MOUNT_ATTR_NODEV, 0),
    "rnoexec": (c.MOUNT_ATTR_NOEXEC, 0),
}
_PROPAGATION = {
    "shared": c.MS_SHARED,
    "rshared": c.MS_SHARED,
    "slave": c.MS_SLAVE,
    "rslave": c.MS_SLAVE,
    "private": c.MS_PRIVATE,
    "rprivate": c.MS_PRIVATE,
    "unbindable": c.MS_UNBINDABLE,
    "runbindable": c.MS_UNBINDABLE,
}


def directory_plan(path: str, *, read_only: bool = False) -> RootPlan:
    """Return how to take the directory `path` itself, written to in place, as a root."""
    return {
        "base": path,
        "lowers": [],
        "upper": ".",
        "work": None,
        "volatile": False,
        "read_only": read_only,
        "no_devices": False,
    }


def root_plan(mount: OverlayMount, *, read_only: bool = False) -> RootPlan:
    """Return how to mount `mount`; its stubs come as the lowest lower directory."""
    lowers = [*mount.lowers, *([mount.stubs] if mount.stubs is not None else [])]
    if not lowers and mount.upper is None:
        raise InvalidSpec("mount root file system: no layer and no writable directory")
    return {
        "base": mount.base,
        "lowers": lowers,
        "upper": mount.upper,
        "work": mount.work,
        "volatile": mount.volatile,
        "read_only": read_only,
        "no_devices": False,
    }


def mount_plan(
    kind: "Literal['new', 'bind', 'overlay', 'file', 'cgroup']", target: str
) -> MountPlan:
    """Return a plan of `kind` whose other fields say nothing yet."""
    return {
        "kind": kind,
        "target": target,
        "type": "",
        "source": "",
        "options": [],
        "attributes": 0,
        "clear": 0,
        "recursive": False,
        "propagation": 0,
        "data": b"",
        "owner": (0o644, 0, 0),
        "fd": -1,
        "overlay": None,
    }


def mount_of(mount: Mount) -> MountPlan:
    """Return the plan of one entry of config.json's `mounts`."""
    options = mount.get("options", [])
    fstype = mount.get("type", "")
    bind = fstype == "bind" or "bind" in options or "rbind" in options
    plan = mount_plan(
        "bind" if bind else "cgroup" if fstype in ("cgroup", "cgroup2") else "new",
        mount["destination"],
    )
    plan["type"], plan["source"] = fstype, mount.get("source", "")
    plan["recursive"] = "rbind" in options
    for option in options:
        if option in ("bind", "rbind"):
            continue
        if option in _PROPAGATION:
            plan["propagation"] = _PROPAGATION[option]
        elif option in _ATTRIBUTES:
            set_, clear = _ATTRIBUTES[option]
            plan["attributes"] = plan["attributes"] & ~clear | set_
            plan["clear"] = plan["clear"] & ~set_ | clear
        elif not bind:
            name, equals, value = option.partition("=")
            plan["options"].append((name, value if equals else None))
    if bind and plan["attributes"] & _ATIME:
        plan["clear"] |= _ATIME  # mount_setattr wants the old policy cleared with the new one set
    return plan
