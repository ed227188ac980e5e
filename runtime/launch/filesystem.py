"""The container's file systems: executes the mounts of a plan below the root's descriptor.

Everything is attached by descriptor (move_mount), on targets resolved inside the root, so that no
symlink of the image and no rename during the set-up can redirect a mount.
"""

import errno
import os
import stat

from runtime.launch.copyup import copy_up
from runtime.launch.hostdevices import host_device
from runtime.launch.idmap import namespace_of
from runtime.launch.resolve import open_in_root
from runtime.launch.stubs import open_target
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux import mount as m
from runtime.linux import overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.launch.stubs import Stub
    from runtime.plan import DevicePlan, LaunchPlan, MountPlan, RootPlan


# File systems of the kernel that the image must not misplace.
_SYSTEM_TYPES = frozenset({"proc", "sysfs", "cgroup", "cgroup2"})
# What other runtimes let tools show their own versions of. Source: runc, checkProcMount.
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "net/dev",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    )
)


def open_root(root: "RootPlan", propagation: int = 0) -> int:
    """Return a detached mount of the root file system; moves the working directory.

    propagation: of a root that is a directory of the host, as its MS_ flag; 0 is private.
    """
    lowers, upper, work = root["lowers"], root["upper"], root["work"]
    os.chdir(root["base"])
    if upper is None and len(lowers) == 1:
        return overlay.directory(lowers[0], read_only=True)
    if upper is not None and not lowers:
        # An overlay needs a lower directory; over nothing the upper one alone shows the same.
        return overlay.directory(upper, False, recursive=True, propagation=propagation & ~c.MS_REC)
    try:
        return overlay.overlay(lowers, upper, work, root["flags"])
    except OSError as error:
        if not overlay.lowerdir_plus_missing(error):
            raise
        overlay.leave_mount_namespace()
        os.chdir(root["base"])
        return overlay.overlay_by_mount(lowers, upper, work, root["flags"])


def open_views(mounts: "list[MountPlan]") -> None:
    """Mount the snapshots, other than the root, that mounts take a path from; moves the cwd."""
    for plan in mounts:
        if plan["overlay"] is not None:
            plan["fd"] = open_root(plan["overlay"])


def open_sources(plan: "LaunchPlan") -> None:
    """Take copies of the host's paths that are to be shown, before the container is cloned.

    Here the host's own mounts can be copied as they are (a shared one stays a peer), with the
    rights that a container in a user namespace lacks.
    """
    for mount in plan["mounts"]:
        if mount["kind"] == "bind" and not mount["remount"]:
            open_source(mount)
    if plan["bind_devices"]:
        # A user namespace may not make nodes that work, so it gets the host's.
        plan["device_trees"] = [host_device(device) for device in plan["devices"]]


def open_source(mount: "MountPlan") -> None:
    """Take a copy of the host's path that a bind mount is to show."""
    flags = c.OPEN_TREE_CLONE | (c.AT_RECURSIVE if mount["recursive"] else 0)
    mount["fd"] = m.open_tree(c.AT_FDCWD, mount["source"], flags)
    if mount["id_map"] is not None:
        userns = namespace_of(mount["id_map"])
        try:
            m.map_ids(mount["fd"], userns, mount["id_map_recursive"])
        finally:
            os.close(userns)


def close_sources(plan: "LaunchPlan") -> None:
    """Let go of what was opened for the container, which has its own copies now."""
    for mount in plan["mounts"]:
        if mount["fd"] >= 0:
            os.close(mount["fd"])
            mount["fd"] = -1
    for tree in plan["device_trees"]:
        os.close(tree)
    for *_, leaf in plan["cgroup_view"]:
        if isinstance(leaf, int) and leaf >= 0:
            os.close(leaf)


def _cgroup_tree(entry: "tuple[str, str, int | str]", attributes: int) -> int:
    """Return a mount of a cgroup tree, whose root is the container's own cgroup."""
    _, option, leaf = entry
    if isinstance(leaf, str):
        leaf = m.open_tree(c.AT_FDCWD, leaf, c.OPEN_TREE_CLONE)
    if leaf >= 0:
        m.mount_setattr(leaf, attributes)
        return leaf
    if not option:
        return m.make_detached("cgroup2", "cgroup", [], attributes)
    options: list[tuple[str, str | None]] = [(option, None)]
    if option.startswith("name="):
        options = [("name", option[5:]), ("none", None)]
    return m.make_detached("cgroup", "cgroup", options, attributes)


class Filesystem:
    """The root under construction.

    root: descriptor of the attached root. scratch: descriptor of a private tmpfs outside of it.
    made: the mount points that had to be made.
    """

    def __init__(self, root: int, scratch: int, made: "list[Stub]") -> None:
        self.root = root
        self.scratch = scratch
        self.made = made
        self._files = 0
        self._procs: set[int] = set()  # devices of the procfs mounted here
        self._unfinished: list[int] = []  # mounts that become read-only when all is in them

    def mount(self, plan: "MountPlan") -> None:
        """Make one mount of the plan and attach it."""
        if plan["remount"]:
            self._remount(plan)
            return
        kind = plan["kind"]
        if kind == "new":
            tree = self._new(plan)
        else:
            tree = self._bind_source(plan)
            m.mount_setattr(tree, plan["attributes"], plan["clear"])
        self._set_recursively(tree, plan)
        try:
            is_dir = kind == "new" or stat.S_ISDIR(os.fstat(tree).st_mode)
            is_system = kind == "new" and (
                plan["type"] in _SYSTEM_TYPES or plan["target"] == "/dev"
            )
            target = self._target(plan["target"], is_dir, is_system)
            try:
                self._check_kind(target, is_dir, plan["target"])
                if plan["copy_up"]:
                    copy_up(target, tree)
                m.move_mount(tree, target, plan["target"])
            finally:
                os.close(target)
            if plan["type"] == "proc":
                self._procs.add(os.fstat(tree).st_dev)
        finally:
            os.close(tree)

    def _new(self, plan: "MountPlan") -> int:
        attributes = plan["attributes"]
        # Devices, and mount points of what comes later, have to be made in it.
        later = plan["type"] == "tmpfs" or plan["target"] == "/dev"
        if later:
            attributes &= ~c.MOUNT_ATTR_RDONLY
        tree = m.make_detached(plan["type"], plan["source"], plan["options"], attributes)
        if attributes != plan["attributes"]:
            self._unfinished.append(os.dup(tree))
        return tree

    def finish(self) -> None:
        """Make read-only what was to be, once nothing has to be made in it any more."""
        for tree in self._unfinished:
            m.mount_setattr(tree, c.MOUNT_ATTR_RDONLY)
            os.close(tree)
        self._unfinished.clear()

    def _set_recursively(self, tree: int, plan: "MountPlan") -> None:
        # A copy of a shared mount is its peer: unless asked for, nothing may travel out.
        wanted = plan["propagation"] or c.MS_PRIVATE | c.MS_REC
        m.mount_setattr(tree, 0, 0, wanted & ~c.MS_REC, bool(wanted & c.MS_REC))
        if any(plan["below"]):
            m.mount_setattr(tree, *plan["below"], recursive=True)

    def _remount(self, plan: "MountPlan") -> None:
        """Change the attributes of the mount that is there."""
        target = open_in_root(self.root, plan["target"], os.O_PATH, follow=False)
        try:
            m.mount_setattr(target, plan["attributes"], plan["clear"])
            if any(plan["below"]):
                m.mount_setattr(target, *plan["below"], recursive=True)
            if plan["propagation"]:
                wanted = plan["propagation"]
                m.mount_setattr(target, 0, 0, wanted & ~c.MS_REC, bool(wanted & c.MS_REC))
        finally:
            os.close(target)

    def _target(self, path: str, is_dir: bool, is_system: bool) -> int:
        """Return the mount point `path`, for a kernel's file system a directory of the image's.

        What is masked and made read-only below /proc and /sys is found by name: a symlink of the
        image there would leave it open (CVE-2019-19921), and so would a mount over it.
        """
        try:
            target = open_target(self.root, path, is_dir, self.made, follow=not is_system)
        except OSError as error:
            if is_system and error.errno in (errno.ELOOP, errno.ENOTDIR):
                # Its second half is what callers of runc look for.
                text = "the image has a symlink or a file where a directory has to be"
                text += " (must be mounted on ordinary directory)"
                raise OSError(error.errno, text, path) from error
            raise
        if os.fstat(target).st_dev in self._procs and path not in _PROC_FILES:
            os.close(target)
            raise OSError(errno.EPERM, "nothing may be mounted on or inside /proc", path)
        return target

    def _check_kind(self, target: int, is_dir: bool, path: str) -> None:
        """Say what the kernel's bare ENOTDIR means: a file over a directory or the reverse."""
        if stat.S_ISDIR(os.fstat(target).st_mode) != is_dir:
            wanted, there = ("directory", "file") if is_dir else ("file", "directory")
            raise OSError(
                errno.ENOTDIR, f"cannot mount a {wanted}: the mount point is a {there}", path
            )

    def _bind_source(self, plan: "MountPlan") -> int:
        if plan["kind"] == "file":
            return self._file(plan)
        if plan["kind"] == "overlay":
            return self._from_overlay(plan)
        return plan["fd"]

    def _file(self, plan: "MountPlan") -> int:
        """Return a mount of a generated file, which lives in the private tmpfs only."""
        mode, uid, gid = plan["owner"]
        self._files += 1
        name = f"file{self._files}"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self.scratch)
        try:
            data = memoryview(plan["data"])
            while data:
                data = data[os.write(fd, data) :]
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
        return m.open_tree(self.scratch, name, c.OPEN_TREE_CLONE)

    def _from_overlay(self, plan: "MountPlan") -> int:
        """Return a mount of a path inside another snapshot, resolved as if that were `/`."""
        self._files += 1
        name = f"view{self._files}"
        os.mkdir(name, dir_fd=self.scratch)
        tree = plan["fd"]
        try:
            target = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=self.scratch)
            m.move_mount(tree, target, name)
            os.close(target)
            selected = open_in_root(tree, plan["source"], os.O_PATH)
            try:
                return m.open_tree(selected, "", c.OPEN_TREE_CLONE | c.AT_EMPTY_PATH)
            finally:
                os.close(selected)
        finally:
            os.close(tree)

    def cgroups(
        self, target: str, attributes: int, hierarchies: "list[tuple[str, str, int | str]]"
    ) -> None:
        """Show the container its own cgroups.

        hierarchies: (folder name, v1 controller, the leaf: a descriptor of a mount of it, its path,
        or -1 for our own cgroup namespace's); v2 has an empty controller, and an empty folder name
        too where it is the only one.
        """
        point = self._target(target, True, True)
        try:
            if [entry[:2] for entry in hierarchies] == [("", "")]:
                tree = _cgroup_tree(hierarchies[0], attributes)
                self._attach(tree, point, target)
                return
            options: list[tuple[str, str | None]] = [("mode", "755")]
            tmpfs = m.make_detached("tmpfs", "tmpfs", options, attributes & ~c.MOUNT_ATTR_RDONLY)
            m.move_mount(tmpfs, point, target)
        finally:
            os.close(point)
        for entry in hierarchies:
            name = entry[0]
            os.mkdir(name, 0o755, dir_fd=tmpfs)
            tree = _cgroup_tree(entry, attributes)
            inner = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=tmpfs)
            self._attach(tree, inner, name)
            os.close(inner)
        m.mount_setattr(tmpfs, attributes)
        os.close(tmpfs)

    def _attach(self, tree: int, target: int, name: str) -> None:
        try:
            m.move_mount(tree, target, name)
        finally:
            os.close(tree)

    def show_devices(self, devices: "list[DevicePlan]", trees: "list[int]") -> None:
        """Mount the host's device nodes `trees` in the places of `devices`."""
        for device, tree in zip(devices, trees, strict=True):
            self._attach(tree, open_target(self.root, device[0], False, self.made), device[0])

    def show_terminal(self, terminal: int) -> None:
        """Mount a terminal on /dev/console, which no symlink of the image can lead elsewhere."""
        tree = m.open_tree(terminal, "", c.OPEN_TREE_CLONE | c.AT_EMPTY_PATH)
        target = open_target(self.root, "dev/console", False, self.made, follow=False)
        try:
            self._attach(tree, target, "/dev/console")
        finally:
            os.close(target)

    def devices(self, devices: "list[DevicePlan]") -> None:
        """Make device nodes; one that is there already stays."""
        for path, kind, number, mode, uid, gid in devices:
            head, _, name = path.rpartition("/")
            os.close(open_target(self.root, head or "/", True, self.made))
            parent = open_in_root(self.root, head, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # The umask is 0. A chmod would follow who has become a symlink since.
                os.mknod(name, kind | mode, number, dir_fd=parent)
                if uid or gid:
                    os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                pass
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error
            finally:
                os.close(parent)

    def links(self, links: "list[tuple[str, str]]") -> None:
        """Make the usual symlinks in /dev."""
        os.close(open_target(self.root, "dev", True, self.made))
        dev = open_in_root(self.root, "dev", os.O_RDONLY | os.O_DIRECTORY)
        for name, target in links:
            if name == "core" and not os.path.exists(target):
                continue  # a kernel without it
            with tolerate(FileExistsError):  # the plan's own device of that name
                os.symlink(target, name, dir_fd=dev)
        os.close(dev)

    def mask(self, paths: "list[str]") -> None:
        """Hide `paths`: files under the null device, directories under an empty tmpfs."""
        null = -1
        for path in paths:
            try:
                target = open_in_root(self.root, path, os.O_PATH, follow=False)
            except (FileNotFoundError, NotADirectoryError):
                continue  # this kernel does not have it
            try:
                if stat.S_ISDIR(os.fstat(target).st_mode):
                    options: list[tuple[str, str | None]] = [("nr_blocks", "1"), ("nr_inodes", "1")]
                    tree = m.make_detached("tmpfs", "tmpfs", options, c.MOUNT_ATTR_RDONLY)
                else:
                    if null < 0:
                        null = self._null()
                    tree = m.open_tree(null, "", c.OPEN_TREE_CLONE | c.AT_EMPTY_PATH)
                self._attach(tree, target, path)
            finally:
                os.close(target)
        if null >= 0:
            os.close(null)

    def _null(self) -> int:
        """Open the container's /dev/null, and make sure that it is the null device."""
        fd = open_in_root(self.root, "dev/null", os.O_PATH, follow=False)
        status = os.fstat(fd)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
            raise OSError(errno.ENODEV, "the container's null device is another", "/dev/null")
        return fd

    def make_read_only(self, paths: "list[str]") -> None:
        """Put read-only copies of `paths` over themselves, with what is mounted below."""
        for path in paths:
            try:
                target = open_in_root(self.root, path, os.O_PATH, follow=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                flags = c.OPEN_TREE_CLONE | c.AT_EMPTY_PATH | c.AT_RECURSIVE
                tree = m.open_tree(target, "", flags)
                m.mount_setattr(tree, c.MOUNT_ATTR_RDONLY, recursive=True)
                self._attach(tree, target, path)
            finally:
                os.close(target)
