"""The launcher where nothing can be mounted and no namespace made: a process with another root.

No wall to speak of: the command sees the processes, the network and the names around it. What a
container finds mounted is put into the tree itself where that can be done (generated files, the
usual devices), and taken out again before the tree becomes a layer. What the command leaves running
is killed: it becomes our child, as nobody else's.
"""

import errno
import os
import stat

from runtime.launch.cgroup import Leaf
from runtime.launch.filesystem import open_root
from runtime.launch.parent import Launch
from runtime.launch.resolve import open_in_root
from runtime.launch.stubs import Stub, open_target, remove_stubs
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux.process import pidfd_open, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import DevicePlan, LaunchPlan, MountPlan, RootPlan

_CHUNK = 1 << 20
_OF_THE_KERNEL = ("/proc", "/sys", "/dev")


class ChrootLaunch(Launch):
    """One process with another root, from the plan to its exit status."""

    def run(self) -> None:
        """Do everything; the last message sent is `failed` or `exited`."""
        prctl(c.PR_SET_DUMPABLE, 0)
        begun = self.begin()
        if begun is None:
            return
        plan, caller = begun
        status = None
        try:
            root = _open_root(plan["root"])
            furniture = Furniture(root)
            try:
                furniture.put(plan["mounts"], plan["devices"])
                with Leaf(plan["cgroup"]) as leaf:
                    status = self.contain(plan, root, caller, leaf)
            finally:
                furniture.take_away()
        except OSError as error:
            self.fail("mount", f"prepare {error.filename}: {error.strerror}", error)
            return
        self.finish(status, (None, None, False))

    def clone(self, plan: "LaunchPlan", leaf: Leaf) -> "tuple[int, int]":
        """Return (pid, pidfd) to the launcher, (0, -1) to the new process."""
        pid = os.fork()
        return pid, pidfd_open(pid) if pid else -1


def _open_root(root: "RootPlan") -> int:
    if root["lowers"]:  # asked for by one who may mount
        return open_root(root)
    path = os.path.join(root["base"], root["upper"] or "")
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class Furniture:
    """What a tree has only while a process runs in it."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._stubs: list[Stub] = []
        self._written: list[tuple[int, bytes | None, os.stat_result]] = []
        self._nodes: list[tuple[int, str, int, os.stat_result]] = []

    def put(self, mounts: "list[MountPlan]", devices: "list[DevicePlan]") -> None:
        """Put it there. Raises OSError for what takes a mount."""
        for mount in mounts:
            target = mount["target"]
            if mount["kind"] == "file":
                self._write(target, mount["data"], mount["owner"])
            elif mount["kind"] not in ("new", "cgroup") or not target.startswith(_OF_THE_KERNEL):
                raise OSError(errno.ENOTSUP, "nothing can be mounted here", target)
        for device in devices:
            self._make_node(device)

    def _write(self, path: str, data: bytes, owner: "tuple[int, int, int]") -> None:
        made = len(self._stubs)
        found = open_target(self._root, path, False, self._stubs)
        try:
            status = os.fstat(found)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "the image has something else than a file there", path)
            fd = os.open(f"/proc/self/fd/{found}", os.O_RDWR | os.O_CLOEXEC)
        finally:
            os.close(found)
        is_new = len(self._stubs) > made
        before = None if is_new else _read(fd)
        self._written.append((fd, before, status))
        _rewrite(fd, data)
        if is_new:
            mode, uid, gid = owner
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)

    def _make_node(self, device: "DevicePlan") -> None:
        path, kind, number, mode, *_ = device
        head, _, name = path.rpartition("/")
        os.close(open_target(self._root, head or "/", True, self._stubs))
        parent = open_in_root(self._root, head, os.O_RDONLY | os.O_DIRECTORY)
        before = os.fstat(parent)
        try:
            os.mknod(name, kind | mode, number, dir_fd=parent)
            os.chmod(name, mode, dir_fd=parent)
        except (FileExistsError, PermissionError):
            os.close(parent)  # there, or not allowed here: the command has to do without
            return
        self._nodes.append((parent, name, number, before))

    def take_away(self) -> None:
        """Take out again what is still as it was put there."""
        for fd, before, status in self._written:
            _rewrite(fd, before or b"")
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.close(fd)
        for parent, name, number, before_node in reversed(self._nodes):
            with tolerate(FileNotFoundError):
                if os.stat(name, dir_fd=parent, follow_symlinks=False).st_rdev == number:
                    os.unlink(name, dir_fd=parent)
            os.utime(parent, ns=(before_node.st_atime_ns, before_node.st_mtime_ns))
            os.close(parent)
        remove_stubs(self._root, self._stubs)


def _read(fd: int) -> bytes:
    data = b""
    while piece := os.pread(fd, _CHUNK, len(data)):
        data += piece
    return data


def _rewrite(fd: int, data: bytes) -> None:
    os.ftruncate(fd, 0)
    at = 0
    while at < len(data):
        at += os.pwrite(fd, data[at:], at)


def main(orders: int, report: int) -> None:
    """Entry point of the launcher process."""
    code = 0
    try:
        ChrootLaunch(orders, report).run()
    except BaseException:
        code = 1
    os._exit(code)
