"""File systems of a plan: a root described by the store, and config.json's mounts. Pure."""

from runtime.errors import InvalidSpec
from runtime.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from runtime.plan import IdMapPlan, MountPlan, RootPlan
    from runtime.spec import IdMapping, Mount
    from store.mount import OverlayMount


_RDONLY, _ATIME = c.MOUNT_ATTR_RDONLY, c.MOUNT_ATTR__ATIME
# option -> (attributes set, attributes cleared); with an `r` before it: of what is below as well
_ATTRIBUTES = {
    "ro": (_RDONLY, 0),
    "rw": (0, _RDONLY),
    "suid": (0, c.MOUNT_ATTR_NOSUID),
    "nosuid": (c.MOUNT_ATTR_NOSUID, 0),
    "dev": (0, c.MOUNT_ATTR_NODEV),
    "nodev": (c.MOUNT_ATTR_NODEV, 0),
    "exec": (0, c.MOUNT_ATTR_NOEXEC),
    "noexec": (c.MOUNT_ATTR_NOEXEC, 0),
    "atime": (0, _ATIME),
    "relatime": (0, _ATIME),
    "norelatime": (0, 0),
    "noatime": (c.MOUNT_ATTR_NOATIME, _ATIME),
    "strictatime": (c.MOUNT_ATTR_STRICTATIME, _ATIME),
    "nostrictatime": (0, _ATIME),
    "nodiratime": (c.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, c.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (c.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, c.MOUNT_ATTR_NOSYMFOLLOW),
}
_RECURSIVE = {f"r{option}": bits for option, bits in _ATTRIBUTES.items()}
PROPAGATION = {
    "shared": c.MS_SHARED,
    "rshared": c.MS_SHARED | c.MS_REC,
    "slave": c.MS_SLAVE,
    "rslave": c.MS_SLAVE | c.MS_REC,
    "private": c.MS_PRIVATE,
    "rprivate": c.MS_PRIVATE | c.MS_REC,
    "unbindable": c.MS_UNBINDABLE,
    "runbindable": c.MS_UNBINDABLE | c.MS_REC,
}
# Options of mount(8) that are the kernel's own defaults, or a request to do nothing.
_NOTHING = frozenset({"defaults", "bind", "rbind", "loud", "nosilent", "mand", "nomand", "nofail"})
# Flags of a whole file system; a bind mount shares one that has its own already.
_OF_SUPERBLOCK = frozenset(
    {"sync", "async", "dirsync", "lazytime", "nolazytime", "iversion", "noiversion", "silent"}
)
# Their files bear what SELinux's policy says of them. Source: runc, mountToRootfs.
_LABELLED_BY_POLICY = frozenset({"proc", "sysfs", "mqueue"})
_NO_FLAGS_OF_FSCONFIG = frozenset({"iversion", "noiversion", "silent"})

MOUNT_OPTIONS = frozenset(
    {*_ATTRIBUTES, *_RECURSIVE, *PROPAGATION, *_NOTHING, *_OF_SUPERBLOCK}
    | {"tmpcopyup", "remount", "idmap", "ridmap"}
)


def directory_plan(path: str, *, read_only: bool = False) -> "RootPlan":
    """Return how to take the directory `path` itself, written to in place, as a root."""
    return {
        "base": path,
        "lowers": [],
        "upper": ".",
        "work": None,
        "flags": [],
        "read_only": read_only,
        "no_devices": False,
    }


def root_plan(mount: "OverlayMount", *, read_only: bool = False) -> "RootPlan":
    """Return how to mount `mount`; its stubs come as the lowest lower directory."""
    lowers = [*mount.lowers, *([mount.stubs] if mount.stubs is not None else [])]
    if not lowers and mount.upper is None:
        raise InvalidSpec("mount root file system: no layer and no writable directory")
    return {
        "base": mount.base,
        "lowers": lowers,
        "upper": mount.upper,
        "work": mount.work,
        "flags": ["volatile"] * mount.volatile + ["userxattr"] * mount.user_marks,
        "read_only": read_only,
        "no_devices": False,
    }


def mount_plan(
    kind: "Literal['new', 'bind', 'overlay', 'file', 'cgroup']", target: str
) -> "MountPlan":
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
        "below": (0, 0),
        "copy_up": False,
        "id_map": None,
        "id_map_recursive": False,
        "remount": False,
        "data": b"",
        "owner": (0o644, 0, 0),
        "fd": -1,
        "overlay": None,
    }


def mount_of(mount: "Mount", mappings: "IdMapPlan | None" = None, label: str = "") -> "MountPlan":
    """Return the plan of one entry of config.json's `mounts`.

    mappings: of the container's user namespace, which an idmapped mount without its own takes.
    label: the SELinux context of what is new and has files of its own.
    """
    options = mount.get("options") or []
    fstype = mount.get("type", "")
    bind = fstype == "bind" or "bind" in options or "rbind" in options
    plan = mount_plan(
        "bind" if bind else "cgroup" if fstype in ("cgroup", "cgroup2") else "new",
        "/" + mount["destination"].lstrip("/"),
    )
    plan["type"], plan["source"] = fstype, mount.get("source", "")
    plan["recursive"] = "rbind" in options
    for option in options:
        _add_option(plan, option, bind)
    if label and plan["kind"] == "new" and fstype not in _LABELLED_BY_POLICY:
        plan["options"].append(("context", label))
    uids, gids = mount.get("uidMappings"), mount.get("gidMappings")
    if uids or gids:
        plan["id_map"] = mapping_lines(uids or [], gids or [])
    elif "idmap" in options or "ridmap" in options:
        plan["id_map"] = mappings
    # mount_setattr wants the old policy cleared where a new one is set.
    if bind and plan["attributes"] & _ATIME:
        plan["clear"] |= _ATIME
    if plan["below"][0] & _ATIME:
        plan["below"] = plan["below"][0], plan["below"][1] | _ATIME
    return plan


def _add_option(plan: "MountPlan", option: str, bind: bool) -> None:
    if option in PROPAGATION:
        plan["propagation"] = PROPAGATION[option]
    elif option in _ATTRIBUTES:
        plan["attributes"], plan["clear"] = _with(
            (plan["attributes"], plan["clear"]), _ATTRIBUTES[option]
        )
    elif option in _RECURSIVE:
        plan["below"] = _with(plan["below"], _RECURSIVE[option])
    elif option == "tmpcopyup":
        plan["copy_up"] = True
    elif option == "remount":
        plan["remount"] = True
    elif option in ("idmap", "ridmap"):
        plan["id_map_recursive"] = option == "ridmap"
    elif option in _NOTHING or option.startswith("x-") or (bind and option in _OF_SUPERBLOCK):
        pass
    elif not bind and option not in _NO_FLAGS_OF_FSCONFIG:
        name, equals, value = option.partition("=")
        plan["options"].append((name, value if equals else None))


def _with(before: "tuple[int, int]", more: "tuple[int, int]") -> "tuple[int, int]":
    """Return (set, cleared) after another option: the later one wins."""
    set_, clear = more
    return before[0] & ~clear | set_, before[1] & ~set_ | clear


def mapping_lines(uids: "list[IdMapping]", gids: "list[IdMapping]") -> "IdMapPlan | None":
    """Return mappings as uid_map and gid_map take them; None where there are none."""
    lines = [
        "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in mappings)
        for mappings in (uids, gids)
    ]
    return (lines[0], lines[1]) if any(lines) else None
