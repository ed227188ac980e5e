"""A container's cgroups where systemd manages them: a scope, made around the container's init.

The init is cloned first, and waits in our own cgroups; then systemd makes the scope and moves it
in; then what systemd has no property for is written into the scope's files, which it hands to us
(Delegate=yes). Only then the init may go on. Whoever dies in between leaves at most a scope without
a process, which systemd removes.
"""

import os
import time

from runtime.errors import RuntimeFailure
from runtime.launch.cgroup import Leaf
from runtime.launch.cgroupfiles import cgroups_of, planned_paths, write
from runtime.systemd import manager, properties
from runtime.systemd.bus import Bus, connect, is_user
from runtime.systemd.units import folder_of, scope_of
from runtime.systemd.variants import annotated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.plan import CgroupPlan, LaunchPlan
    from runtime.systemd.variants import Property

_NOTICE_S = 1.0


class Scope(Leaf):
    """The scope of one container: a leaf that systemd makes when the init is attached to it.

    unit: its name.
    """

    def __init__(self, plan: "CgroupPlan", bus: Bus, unit: str, wanted: "list[Property]") -> None:
        """plan: with the scope's place as the leaf's. wanted: its properties."""
        super().__init__(plan)
        self.unit = unit
        self._bus = bus
        self._wanted = wanted
        self._was_asked_for = False

    def __enter__(self) -> "Scope":
        self._v1 = planned_paths(self._plan)
        self._v2 = self._v1.pop("unified", "")
        self._only_v2 = not self._v1
        self.guards_devices = True  # `attach` fails where they are not
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._was_asked_for:
                manager.stop(self._bus, self.unit)
        except RuntimeFailure:  # what failed before is what is told
            await_notice(self.paths())
        finally:
            super().__exit__()

    def release(self) -> None:
        """Let the scope be, and ask systemd nothing more."""
        self._bus.close()
        super().release()

    def record(self) -> "dict[str, str]":
        """Return what the container's state keeps of it, for `update` and `remove`."""
        return {"unit": self.unit, "bus": self._bus.address}

    def enter(self) -> None:
        """Let go of what is the maker's alone: systemd has moved us, the init."""
        self._bus.close()

    def attach(self, pid: int) -> None:
        """Have the scope made around the init, and set what systemd does not set.

        Raises OSError, RuntimeFailure.
        """
        self._was_asked_for = True
        manager.start(self._bus, self.unit, [*self._wanted, ("PIDs", "au", [pid])])
        place = f"{self._plan['parent']}/{self.unit}"
        found = cgroups_of(str(pid))
        if place not in found.values():
            raise OSError(0, f"systemd did not move the container to {place}", self.unit)
        planned, self._v1, self._v2 = self.paths(), {}, ""
        try:
            self._make()
        except OSError:
            if self._plan["required"]:
                raise
            # Of v1 a user has no tree but those that systemd put him into.
            self._v1 = {name: path for name, path in planned.items() if found.get(name) == place}
            self._v2 = self._v1.pop("unified", "")
        if not self.guards_devices and self._plan["v1_devices"]:
            raise OSError(0, "neither cgroup v1 nor BPF is there", "linux.resources.devices")
        for controller, folder in self.paths().items():
            if found.get(controller) != place:
                write(folder, "cgroup.procs", str(pid))

    def _tree(self, path: str, own_namespace: int) -> "int | str":
        return -1 if own_namespace else path


def scope_for(plan: "LaunchPlan", spec: "dict[str, Any]", path: str) -> Scope:
    """Return the scope of a container, and have its plan say where that will be.

    spec: its config.json, complete. path: linux.cgroupsPath as it was written. Connects to systemd,
    and asks for nothing yet. Raises InvalidSpec, NoSystemd.
    """
    resources = spec["linux"]["resources"]
    container_id = str(plan["state"]["id"])
    slice_name, unit = scope_of(path, container_id, user=is_user())
    cgroup = plan["cgroup"]
    v1 = set(planned_paths(cgroup)) != {"unified"}
    wanted = properties.scope_properties(slice_name, container_id, v1=v1)
    wanted += properties.limits(resources, v1=v1)
    if cgroup["v1_devices"]:
        wanted += properties.devices(resources, v1=v1)
    wanted += annotated(spec.get("annotations") or {})
    bus = connect()
    cgroup["parent"], cgroup["name"] = bus.control_group + folder_of(slice_name), unit
    return Scope(cgroup, bus, unit, wanted)


def update(scope: "dict[str, str]", resources: "dict[str, Any]", *, v1: bool) -> None:
    """Have systemd change limits. scope: of the container's state. Raises RuntimeFailure."""
    wanted = properties.limits(resources, v1=v1)  # type: ignore[arg-type]
    if not wanted:
        return
    bus = connect(scope["bus"])
    try:
        manager.change(bus, scope["unit"], wanted)
    finally:
        bus.close()


def remove(scope: "dict[str, str]") -> None:
    """Have systemd take a scope away. scope: of the container's state. Raises RuntimeFailure."""
    bus = connect(scope["bus"])
    try:
        manager.stop(bus, scope["unit"])
    finally:
        bus.close()


def await_notice(cgroups: "dict[str, str]") -> None:
    """Give a systemd that cannot be asked the time to see that a scope has no process any more.

    It removes the scope then; of one whose cgroup was taken away under it, it would hear nothing.
    """
    path = cgroups.get("unified") or cgroups.get("name=systemd", "")
    deadline = time.monotonic() + _NOTICE_S
    while os.path.isdir(path) and time.monotonic() < deadline:
        time.sleep(0.005)
