"""The container's cgroups: one leaf in the v2 tree, and in those v1 trees that a limit needs.

Where nothing may be written (inside another container), the container simply has no cgroup of its
own, unless the plan asks for limits.

A leaf is held by an flock on its directory: what a killed launcher left behind has none, and the
next launcher removes it.
"""

import errno
import os

from runtime.cgroups import ONLY_V1, PARENT
from runtime.launch.cgroupfiles import (
    absolute,
    copy_cpusets,
    go_through,
    hand_down,
    hand_over,
    hierarchies,
    make_held,
    numbers,
    open_doors,
    read,
    remove,
    sweep,
    write,
    write_all,
)
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux import devicefilter
from runtime.linux import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.plan import CgroupPlan, LaunchPlan


class NoCgroup(OSError):
    """The cgroups that a plan needs cannot be made."""


class Leaf:
    """The cgroups of one container, made on entry and removed on exit.

    fd: the v2 leaf, for clone3 to start the container in; None where there is none.
    guards_devices: whether the kernel enforces the plan's device rules.
    """

    def __init__(self, plan: "CgroupPlan") -> None:
        self._plan = plan
        self._v1: dict[str, str] = {}
        self._v2 = ""
        self._only_v2 = False
        self._to_attach = False
        self._held: list[int] = []
        self._doors: list[int] = []
        self.fd: int | None = None
        self.guards_devices = False

    def __enter__(self) -> "Leaf":
        try:
            self._make()
            self._doors = open_doors(self._v1.values())
        except OSError as error:
            self._give_up(error)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        for path in (*self._v1.values(), self._v2):
            if path:
                remove(path)

    def state(self) -> "dict[str, Any]":
        """Return plain values of which `resumed` makes it again; its descriptors stay open."""
        return vars(self)

    @classmethod
    def resumed(cls, state: "dict[str, Any]") -> "Leaf":
        """Return the leaf that was entered before an execve; to be exited as ever."""
        leaf = cls.__new__(cls)
        vars(leaf).update(state)
        return leaf

    def _give_up(self, error: OSError) -> None:
        """Do without cgroups where the plan has no limits; else say what cannot be kept."""
        self.__exit__()
        self._v2, self._v1, self.guards_devices = "", {}, False
        if self._plan["required"]:
            raise NoCgroup(error.errno, error.strerror, error.filename) from error

    def _make(self) -> None:
        """Make the leaves, where they are not there yet, and write the limits. Raises OSError."""
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounted = hierarchies(file.read())
        v1 = [name for name in mounted if name != "unified"]
        self._only_v2 = not v1
        if self._plan["parent"].endswith(PARENT):
            for root in mounted.values():
                sweep(root + self._plan["parent"])
        self.guards_devices = False
        if "unified" in mounted:
            self._make_v2(mounted["unified"], v1)
        if v1:
            self._make_v1(mounted)

    def _make_v2(self, root: str, v1: "list[str]") -> None:
        parent = root + absolute(self._plan["parent"], "unified")
        path = f"{parent}/{self._plan['name']}"
        self.fd = make_held(parent, path)
        self._v2 = path
        if self._plan["owner"] >= 0:
            hand_over(path, self._plan["owner"])
        if v1:
            write_all(path, self._plan["unified"])
        elif self._plan["v2"] or self._plan["kept"]:
            self._limit_v2(root, parent)
        # Loading a program takes longer than v1's files, which a kept leaf has anyway.
        by_v1 = self._plan["kept"] and "devices" in v1
        if self._plan["device_program"] and not by_v1:
            try:
                devicefilter.attach(self.fd, self._plan["device_program"])
                self.guards_devices = True
            except OSError:
                pass  # bpf(2) is refused here; the v1 controller or the mounts have to do

    def _limit_v2(self, root: str, parent: str) -> None:
        """Hand the controllers that limits need down from the root of the tree, and set them."""
        for _, name, _ in self._plan["v1"]:
            if name in ONLY_V1:
                raise OSError(errno.ENOTSUP, "cgroup v2 has no such limit", name)
        files = [name.lstrip("?") for name, _ in self._plan["v2"]]
        if self._plan["kept"]:
            wanted = read(root, "cgroup.controllers").split()
        else:
            wanted = sorted({name.partition(".")[0] for name in files} - {"cgroup"})
        hand_down(root, parent, wanted, {name.partition(".")[0] for name in files})
        write_all(self._v2, self._plan["v2"])

    def _make_v1(self, mounted: "dict[str, str]") -> None:
        for controller in self._wanted_v1(mounted):
            if controller not in mounted:
                raise OSError(errno.ENOENT, f"no {controller} controller is mounted", controller)
            root = mounted[controller]
            parent = root + absolute(self._plan["parent"], controller)
            path = f"{parent}/{self._plan['name']}"
            if path not in self._v1.values():  # two controllers may share a tree
                self._held.append(make_held(parent, path))
            self._v1[controller] = path
            if controller == "cpuset":
                copy_cpusets(root, path)
        for controller, name, value in self._plan["v1"]:
            write_all(self._v1[controller], [(name, value)])
        if "devices" in self._v1 and self._plan["v1_devices"]:
            write_all(self._v1["devices"], self._plan["v1_devices"])
            self.guards_devices = True

    def _wanted_v1(self, mounted: "dict[str, str]") -> "list[str]":
        wanted = dict.fromkeys(controller for controller, _, _ in self._plan["v1"])
        if self._plan["kept"]:
            wanted.update(dict.fromkeys(name for name in mounted if name != "unified"))
        if not self.guards_devices and self._plan["v1_devices"] and "devices" in mounted:
            wanted["devices"] = None
        return list(wanted)

    def paths(self) -> "dict[str, str]":
        """Return controller (`unified` for v2) → folder of the leaf."""
        return {**self._v1, **({"unified": self._v2} if self._v2 else {})}

    def forget_fd(self) -> None:
        """The container was not started in the leaf: `attach` has to move it."""
        self._to_attach = True

    def enter(self) -> None:
        """Go into the v1 leaves: for the container's init itself, still alone in its process."""
        go_through(self._doors)

    def attach(self, pid: int) -> None:
        """Move the container's init into the v2 leaf where it was not cloned into it."""
        if self._to_attach and self._v2:
            write(self._v2, "cgroup.procs", str(pid))

    def release(self) -> None:
        """Let the leaf be; whoever knows its paths removes it."""
        for fd in (self.fd, *self._held, *self._doors):
            if fd is not None:
                os.close(fd)
        self._held.clear()
        self._doors.clear()
        self.fd = None

    def view(self, plan: "LaunchPlan") -> "list[tuple[str, str, int | str]]":
        """Return what the container sees below /sys/fs/cgroup: (folder, v1 controller, tree).

        The folder is empty where v2 is all there is. Trees without a leaf of ours are left out:
        they would show the host's. tree: a mount of the leaf, for a container without a cgroup
        namespace, whose own mount would show the host's from its root; else -1. A leaf that is not
        there yet is a path.
        """
        own = plan["late_namespaces"] & c.CLONE_NEWCGROUP
        own |= any(kind == c.CLONE_NEWCGROUP for _, kind in plan["join"])
        if not any(mount["kind"] == "cgroup" for mount in plan["mounts"]):
            return []
        if self._only_v2:
            return [("", "", self._tree(self._v2, own))] if self._v2 else []
        trees = [(name, name, self._tree(path, own)) for name, path in self._v1.items()]
        if self._v2:
            trees.append(("unified", "", self._tree(self._v2, own)))
        return [(name.removeprefix("name="), controller, fd) for name, controller, fd in trees]

    def _tree(self, path: str, own_namespace: int) -> "int | str":
        return -1 if own_namespace else m.open_tree(c.AT_FDCWD, path, c.OPEN_TREE_CLONE)

    def kill(self) -> None:
        """Kill whatever is left in the v2 leaf: processes that entered it from outside."""
        if self._v2 and "populated 1" in read(self._v2, "cgroup.events"):
            with tolerate(OSError):  # before Linux 5.14
                write(self._v2, "cgroup.kill", "1")

    def usage(self) -> "tuple[int | None, float | None, bool]":
        """Return (peak memory in bytes, CPU seconds, killed for memory), None where not counted."""
        cpu = numbers(read(self._v2, "cpu.stat")).get("usage_usec") if self._v2 else None
        peak = read(self._v2, "memory.peak").strip() if self._v2 else ""
        events = read(self._v2, "memory.events") if self._v2 else ""
        if "memory" in self._v1:
            peak = read(self._v1["memory"], "memory.max_usage_in_bytes").strip()
            events = read(self._v1["memory"], "memory.oom_control")
        return (
            int(peak) if peak.isdigit() else None,
            cpu / 1e6 if cpu is not None else None,
            numbers(events).get("oom_kill", 0) > 0,
        )
