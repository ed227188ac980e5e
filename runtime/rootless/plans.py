"""What changes in a container's plan where we are root of a user namespace only."""

import stat

from runtime.cgroups import PARENT
from runtime.linux import constants as c
from runtime.rootfs import mount_plan
from runtime.rootless.delegation import delegated_parent
from store.manner import Manner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import LaunchPlan, MountPlan

_LOCKED_DOWN = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_NOEXEC
_PLACES = {"proc": "/proc", "sysfs": "/sys"}


def adapt(plan: "LaunchPlan", manner: Manner) -> None:
    """Change `plan` to what root of a user namespace with the ids of `manner` may do."""
    # No node that we could make would work, so the host's are shown.
    plan["bind_devices"] = True
    if plan["cgroup"]["parent"] == PARENT:
        delegated = delegated_parent()
        plan["cgroup"]["parent"] = f"{delegated or ''}{PARENT}"
    shares_network = not plan["namespaces"] & c.CLONE_NEWNET and not any(
        kind == c.CLONE_NEWNET for _, kind in plan["join"]
    )
    for index, mount in enumerate(plan["mounts"]):
        if mount["kind"] == "new" and mount["type"] == "sysfs" and shares_network:
            # The kernel shows a network's sysfs only to the owner of the network.
            plan["mounts"][index] = _as_around(mount, "/sys")
        elif mount["type"] == "devpts":
            mount["options"] = [
                (key, value)
                for key, value in mount["options"]
                if key != "gid" or _is_mapped(int(value or 0), manner.gids)
            ]
    plan["devices"] = [device for device in plan["devices"] if device[1] != stat.S_IFIFO]


def with_shared_processes(plan: "LaunchPlan") -> None:
    """Change `plan` to a container with the /proc and the processes that are around us.

    With a pid namespace of its own the numbers in that /proc would not be those that its processes
    know. What there is of the kernel's files is read only: the other processes are not its own.
    """
    plan["namespaces"] &= ~c.CLONE_NEWPID
    plan["shares_processes"] = True
    for index, mount in enumerate(plan["mounts"]):
        if mount["kind"] == "new" and mount["type"] in _PLACES:
            mount["attributes"] |= c.MOUNT_ATTR_RDONLY
            plan["mounts"][index] = _as_around(mount, _PLACES[mount["type"]])


def without_walls(plan: "LaunchPlan", capabilities: int) -> None:
    """Change `plan` to a process with another root, for who has only these capabilities."""
    plan["chroot"] = plan["shares_processes"] = True
    plan["namespaces"] = plan["late_namespaces"] = 0
    plan["hostname"] = plan["domainname"] = ""
    plan["masked"], plan["read_only_paths"], plan["sysctl"] = [], [], []
    plan["loopback_up"] = plan["new_keyring"] = plan["bind_devices"] = False
    plan["oom_score_adj"] = None
    plan["seccomp"] = b""
    sets = plan["capabilities"]
    for name in ("effective", "permitted", "inheritable", "ambient"):
        sets[name] &= capabilities
    # To take one away for good takes a right of its own.
    sets["bounding"] = (1 << 64) - 1


def _as_around(mount: "MountPlan", source: str) -> "MountPlan":
    plan = mount_plan("bind", mount["target"])
    plan["source"], plan["recursive"] = source, True
    plan["attributes"] = mount["attributes"]
    plan["below"] = (mount["attributes"] | _LOCKED_DOWN, 0)
    return plan


def _is_mapped(number: int, ids: "tuple[tuple[int, int, int], ...]") -> bool:
    return any(inside <= number < inside + count for inside, _, count in ids)
