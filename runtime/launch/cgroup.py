"""The container's cgroups: one leaf in the v2 tree, and in those v1 trees that a limit needs.

Which trees there are is read from mountinfo and /proc/self/cgroup, never guessed from what
/sys/fs/cgroup looks like: hosts mount v1, v2 or both. Where nothing may be written (inside another
container), the container simply has no cgroup of its own, unless the plan asks for limits.

A leaf is held by an flock on its directory: what a killed launcher left behind has none, and the
next launcher removes it.
"""

import errno
import fcntl
import os
import time

from runtime.cgroups import ONLY_V1, PARENT
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux import devicefilter
from runtime.linux import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.plan import CgroupPlan, LaunchPlan

_REMOVE_TRIES = 500  # a second: a dying process frees its memory first


def hierarchies(mountinfo: str) -> "dict[str, str]":
    """Return controller (`unified` for v2, `name=x` for a named tree) → where its root is mounted.

    Only mounts that show a tree from its root count: a path below it would be another one there.
    """
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, (fstype, _, options) = left.split(), right.split(" ", 2)
        if fields[3] != "/":
            continue
        if fstype == "cgroup2":
            found.setdefault("unified", fields[4])
        elif fstype == "cgroup":
            for option in options.split(","):
                if option not in ("rw", "ro", "xattr", "none", "clone_children", "noprefix"):
                    found.setdefault(option, fields[4])
    return found


def _write(directory: str, name: str, value: str) -> None:
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, f"{name}: {error.strerror}", directory) from error
    finally:
        os.close(fd)


def _read(directory: str, name: str) -> str:
    try:
        with open(f"{directory}/{name}", encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""  # the controller is not enabled, or the kernel is older


def _numbers(text: str) -> "dict[str, int]":
    pairs = (line.partition(" ") for line in text.splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


def planned_paths(plan: "CgroupPlan") -> "dict[str, str]":
    """Return controller → folder of the leaves that a kept plan makes, before they are made."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounted = hierarchies(file.read())
    return {
        controller: f"{root}{absolute(plan['parent'], controller)}/{plan['name']}"
        for controller, root in mounted.items()
    }


def folders_of(pid: int) -> "dict[str, str]":
    """Return controller → folder of the cgroups that a process is in, that show here, and that we
    are not in ourselves."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounted = hierarchies(file.read())
    own = _cgroups_of("self")
    folders = {
        name: f"{mounted[name]}{path}"
        for name, path in _cgroups_of(str(pid)).items()
        if name in mounted and path != own.get(name) and ".." not in path
    }
    return {name: folder for name, folder in folders.items() if os.path.isdir(folder)}


def _cgroups_of(process: str) -> "dict[str, str]":
    """Return controller → path of its cgroup in our cgroup namespace, of a folder of /proc."""
    with open(f"/proc/{process}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    return {
        name: path
        for _, controllers, path in rows
        for name in (controllers.split(",") if controllers else ["unified"])
    }


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
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounted = hierarchies(file.read())
        v1 = [name for name in mounted if name != "unified"]
        self._only_v2 = not v1
        if self._plan["parent"].endswith(PARENT):
            for root in mounted.values():
                sweep(root + self._plan["parent"])
        try:
            if "unified" in mounted:
                self._make_v2(mounted["unified"], v1)
            if v1:
                self._make_v1(mounted)
            self._doors = open_doors(self._v1.values())
        except OSError as error:
            self._give_up(error)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        for path in (*self._v1.values(), self._v2):
            if path:
                _remove(path)

    def _give_up(self, error: OSError) -> None:
        """Do without cgroups where the plan has no limits; else say what cannot be kept."""
        self.__exit__()
        self._v2, self._v1, self.guards_devices = "", {}, False
        if self._plan["required"]:
            raise NoCgroup(error.errno, error.strerror, error.filename) from error

    def _make_v2(self, root: str, v1: "list[str]") -> None:
        parent = root + absolute(self._plan["parent"], "unified")
        path = f"{parent}/{self._plan['name']}"
        self.fd = _make_held(parent, path)
        self._v2 = path
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
            wanted = _read(root, "cgroup.controllers").split()
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
                self._held.append(_make_held(parent, path))
            self._v1[controller] = path
            if controller == "cpuset":
                _copy_cpusets(root, path)
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
            _write(self._v2, "cgroup.procs", str(pid))

    def release(self) -> None:
        """Let the leaf be; whoever knows its paths removes it."""
        for fd in (self.fd, *self._held, *self._doors):
            if fd is not None:
                os.close(fd)
        self._held.clear()
        self._doors.clear()
        self.fd = None

    def view(self, plan: "LaunchPlan") -> "list[tuple[str, str, int]]":
        """Return what the container sees below /sys/fs/cgroup: (folder, v1 controller, tree).

        The folder is empty where v2 is all there is. Trees without a leaf of ours are left out:
        they would show the host's. tree: a mount of the leaf, for a container without a cgroup
        namespace, whose own mount would show the host's from its root; else -1.
        """
        own = plan["late_namespaces"] & c.CLONE_NEWCGROUP
        own |= any(kind == c.CLONE_NEWCGROUP for _, kind in plan["join"])
        if not any(mount["kind"] == "cgroup" for mount in plan["mounts"]):
            return []
        if self._only_v2:
            return [("", "", _tree(self._v2, own))] if self._v2 else []
        trees = [(name, name, _tree(path, own)) for name, path in self._v1.items()]
        if self._v2:
            trees.append(("unified", "", _tree(self._v2, own)))
        return [(name.removeprefix("name="), controller, fd) for name, controller, fd in trees]

    def kill(self) -> None:
        """Kill whatever is left in the v2 leaf: processes that entered it from outside."""
        if self._v2 and "populated 1" in _read(self._v2, "cgroup.events"):
            with tolerate(OSError):  # before Linux 5.14
                _write(self._v2, "cgroup.kill", "1")

    def usage(self) -> "tuple[int | None, float | None, bool]":
        """Return (peak memory in bytes, CPU seconds, killed for memory), None where not counted."""
        cpu = _numbers(_read(self._v2, "cpu.stat")).get("usage_usec") if self._v2 else None
        peak = _read(self._v2, "memory.peak").strip() if self._v2 else ""
        events = _read(self._v2, "memory.events") if self._v2 else ""
        if "memory" in self._v1:
            peak = _read(self._v1["memory"], "memory.max_usage_in_bytes").strip()
            events = _read(self._v1["memory"], "memory.oom_control")
        return (
            int(peak) if peak.isdigit() else None,
            cpu / 1e6 if cpu is not None else None,
            _numbers(events).get("oom_kill", 0) > 0,
        )


def open_doors(folders: "Iterable[str]") -> "list[int]":
    """Return descriptors by which a process enters v1 cgroups, each tree's once."""
    doors = []
    for folder in dict.fromkeys(folders):
        doors.append(os.open(f"{folder}/tasks", os.O_WRONLY | os.O_CLOEXEC))
    return doors


def go_through(doors: "list[int]") -> None:
    """Enter the cgroups of `doors`, which are closed then. Only for a process of a single thread.

    A thread that moves itself has nobody to wait for; moving a process from outside waits until
    no CPU is in the middle of a fork or an exit, often ten milliseconds.
    """
    for door in doors:
        os.write(door, b"0")
        os.close(door)
    doors.clear()


def _tree(path: str, own_namespace: int) -> int:
    return -1 if own_namespace else m.open_tree(c.AT_FDCWD, path, c.OPEN_TREE_CLONE)


def absolute(parent: str, controller: str) -> str:
    """Return `parent` as a path in the tree of `controller`; a relative one is below our own."""
    if not parent or parent.startswith("/"):
        return parent
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    wanted = "" if controller == "unified" else controller
    for _, controllers, path in rows:
        if wanted in controllers.split(","):
            return f"{path.rstrip('/')}/{parent}"
    return f"/{parent}"


def hand_down(root: str, parent: str, wanted: "list[str]", needed: "set[str]") -> None:
    """Enable the v2 controllers `wanted` in every cgroup from `root` down to `parent`.

    Raises OSError where one of `needed` cannot be.
    """
    at = root
    for part in ["", *parent[len(root) :].split("/")]:
        at = f"{at}/{part}" if part else at
        for name in wanted:
            try:
                _write(at, "cgroup.subtree_control", f"+{name}")
            except OSError:
                # Above what was delegated to us nothing may be written, nor has to be.
                if name in needed and name not in _read(at, "cgroup.subtree_control").split():
                    raise


def write_all(path: str, files: "list[tuple[str, str]]") -> None:
    """Write (file, value) pairs; a `?` before the name: only where there is such a file."""
    for name, value in files:
        if not name.startswith("?") or os.path.exists(f"{path}/{name[1:]}"):
            _write(path, name.lstrip("?"), value)


def _mkdir(path: str) -> None:
    with tolerate(FileExistsError):
        os.mkdir(path, 0o755)


def _make_held(parent: str, path: str) -> int:
    """Make the leaf `path` and its parent; return a descriptor that holds it against a sweep."""
    for _ in range(8):
        os.makedirs(parent, exist_ok=True)
        try:
            _mkdir(path)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.stat(f"{path}/cgroup.procs")  # a sweep may have come before the lock
        except FileNotFoundError:
            continue  # another launcher removed the parent, as the last one in it
        return fd
    raise FileNotFoundError(errno.ENOENT, "cgroup removed again and again", path)


def _copy_cpusets(root: str, path: str) -> None:
    at = root
    for part in path[len(root) :].strip("/").split("/"):
        _copy_cpuset(at, f"{at}/{part}")
        at = f"{at}/{part}"


def _copy_cpuset(parent: str, child: str) -> None:
    """Give a new v1 cpuset its parent's CPUs: an empty one refuses every process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not _read(child, name).strip():
            _write(child, name, _read(parent, name).strip())


def _remove(path: str) -> None:
    """Remove a leaf, and its parent when that was the last one in it."""
    for attempt in range(_REMOVE_TRIES):
        try:
            os.rmdir(path)
            break
        except FileNotFoundError:
            break
        except OSError as error:
            # EBUSY: the kernel is still taking the last process out.
            if error.errno != errno.EBUSY or attempt == _REMOVE_TRIES - 1:
                return
            time.sleep(0.002)
    parent = os.path.dirname(path)
    if parent.endswith(PARENT):
        with tolerate(OSError):  # other containers live there
            os.rmdir(parent)


def remove_leaf(parent: str, name: str) -> None:
    """Kill what is in a container's leaves in all trees and remove them; its launcher is dead.

    The container's init may still be dying and hold the leaf, so this does not ask who does.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounted = hierarchies(file.read())
    for mountpoint in mounted.values():
        path = f"{mountpoint}{parent}/{name}"
        if os.path.isdir(path):
            with tolerate(OSError):  # v1, or before Linux 5.14: its processes die with their init
                _write(path, "cgroup.kill", "1")
            _remove(path)


def sweep(parent: str) -> None:
    """Remove the leaves in a tree that no launcher holds."""
    try:
        os.rmdir(parent)
    except FileNotFoundError:
        return
    except OSError:  # EBUSY: there are leaves in it
        with tolerate(OSError), os.scandir(parent) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _sweep_leaf(entry.path)


def _sweep_leaf(path: str) -> None:
    fd = -1
    with tolerate(OSError):  # held by a living launcher, or removed meanwhile
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if "populated 1" in _read(path, "cgroup.events"):
            _write(path, "cgroup.kill", "1")
        else:
            os.rmdir(path)
    if fd >= 0:
        os.close(fd)
