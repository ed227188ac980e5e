"""Cgroups as folders and files: where their trees are, how a leaf is made, written and removed.

Which trees there are is read from mountinfo and /proc/self/cgroup, never guessed from what
/sys/fs/cgroup looks like: hosts mount v1, v2 or both. What a leaf is for is `launch/cgroup`'s.
"""

import errno
import fcntl
import os
import time

from runtime.cgroups import PARENT
from runtime.launch.tolerate import tolerate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.plan import CgroupPlan

_DELEGATED = "/sys/kernel/cgroup/delegate"
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
    own = cgroups_of("self")
    folders = {
        name: f"{mounted[name]}{path}"
        for name, path in cgroups_of(str(pid)).items()
        if name in mounted and path != own.get(name) and ".." not in path
    }
    return {name: folder for name, folder in folders.items() if os.path.isdir(folder)}


def cgroups_of(process: str) -> "dict[str, str]":
    """Return controller → path of its cgroup in our cgroup namespace, of a folder of /proc."""
    with open(f"/proc/{process}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    return {
        name: path
        for _, controllers, path in rows
        for name in (controllers.split(",") if controllers else ["unified"])
    }


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


def read(directory: str, name: str) -> str:
    """Return the text of a file of a cgroup, empty where there is no such file."""
    try:
        with open(f"{directory}/{name}", encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""  # the controller is not enabled, or the kernel is older


def write(directory: str, name: str, value: str) -> None:
    """Write one file of a cgroup. Raises OSError, which says the file and the cgroup."""
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, f"{name}: {error.strerror}", directory) from error
    finally:
        os.close(fd)


def write_all(path: str, files: "list[tuple[str, str]]") -> None:
    """Write (file, value) pairs; a `?` before the name: only where there is such a file.

    Of names between `|` it is the first that is there, else the last.
    """
    for names, value in files:
        if names.startswith("?") and not os.path.exists(f"{path}/{names[1:]}"):
            continue
        name, *others = names.lstrip("?").split("|")
        while others and not os.path.exists(f"{path}/{name}"):
            name = others.pop(0)
        write(path, name, value)


def numbers(text: str) -> "dict[str, int]":
    """Return name → number of the lines `name number`."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


def hand_down(root: str, parent: str, wanted: "list[str]", needed: "set[str]") -> None:
    """Enable the v2 controllers `wanted` in every cgroup from `root` down to `parent`.

    Raises OSError where one of `needed` cannot be.
    """
    at = root
    for part in ["", *parent[len(root) :].split("/")]:
        at = f"{at}/{part}" if part else at
        for name in wanted:
            try:
                write(at, "cgroup.subtree_control", f"+{name}")
            except OSError:
                # Above what was delegated to us nothing may be written, nor has to be.
                if name in needed and name not in read(at, "cgroup.subtree_control").split():
                    raise


def hand_over(path: str, uid: int) -> None:
    """Let a user make cgroups in a v2 leaf and move processes about in them, no more than that.

    Source: cgroup-v2.rst, "Model of Delegation"; runc's way.
    """
    try:
        with open(_DELEGATED, encoding="utf-8") as file:
            names = file.read().split()
    except OSError:  # before Linux 4.15
        names = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"]
    with tolerate(PermissionError):  # without root, of a uid that is not ours to give to
        for name in ("", *names):
            with tolerate(FileNotFoundError):
                os.chown(f"{path}/{name}", uid, -1)


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


def _mkdir(path: str) -> None:
    with tolerate(FileExistsError):
        os.mkdir(path, 0o755)


def make_held(parent: str, path: str) -> int:
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


def copy_cpusets(root: str, path: str) -> None:
    """Give each v1 cpuset from `root` down to `path` CPUs."""
    at = root
    for part in path[len(root) :].strip("/").split("/"):
        _copy_cpuset(at, f"{at}/{part}")
        at = f"{at}/{part}"


def _copy_cpuset(parent: str, child: str) -> None:
    """Give a new v1 cpuset its parent's CPUs: an empty one refuses every process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(child, name).strip():
            write(child, name, read(parent, name).strip())


def remove(path: str) -> None:
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
                write(path, "cgroup.kill", "1")
            remove(path)


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
        if "populated 1" in read(path, "cgroup.events"):
            write(path, "cgroup.kill", "1")
        else:
            os.rmdir(path)
    if fd >= 0:
        os.close(fd)
