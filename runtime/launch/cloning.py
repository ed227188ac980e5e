"""Clones a container's init into its namespaces: new ones, and others' that it joins."""

import errno
import os
import struct

from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux.namespaces import clone3, setns, unshare
from runtime.linux.process import pidfd_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.launch.cgroup import Leaf
    from runtime.plan import LaunchPlan

_NOT_HERE = (errno.ENOSYS, errno.EPERM, errno.EBUSY, errno.EOPNOTSUPP)
_PID = struct.Struct("<i")


def clone_init(plan: "LaunchPlan", leaf: "Leaf") -> "tuple[int, int]":
    """Return (pid, pidfd) to the caller, (0, -1) to the new init.

    leaf: a clone that cannot start there leaves it to `leaf.attach`.
    Raises OSError. Only for a process of a single thread.
    """
    flags = plan["namespaces"]
    if plan["time_offsets"] or any(kind & _BEFORE_CLONE for _, kind in plan["join"]):
        return _by_intermediate(plan, leaf)
    if plan["join"] and flags & c.CLONE_NEWUSER:
        return _by_intermediate(plan, leaf)
    if flags & c.CLONE_NEWTIME:
        return _by_intermediate(plan, leaf)
    return _clone(plan, leaf, flags)


# These count for children only, or decide what the others belong to.
_BEFORE_CLONE = c.CLONE_NEWPID | c.CLONE_NEWUSER | c.CLONE_NEWTIME


def _clone(plan: "LaunchPlan", leaf: "Leaf", flags: int) -> "tuple[int, int]":
    try:
        return clone3(flags, c.SIGCHLD, leaf.fd)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    leaf.forget_fd()
    try:
        return clone3(flags, c.SIGCHLD)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM) or flags & c.CLONE_NEWUSER:
            raise
    # A seccomp profile around us may know unshare but not clone3.
    unshare(flags & c.CLONE_NEWPID)
    plan["late_namespaces"] |= flags & ~c.CLONE_NEWPID
    pid = os.fork()
    return pid, pidfd_open(pid) if pid else -1


def _by_intermediate(plan: "LaunchPlan", leaf: "Leaf") -> "tuple[int, int]":
    """Let a process of its own enter and leave namespaces first; its sibling is the init."""
    report_read, report_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(report_read)
        try:
            pid = _enter_and_clone(plan, leaf)
        except OSError as error:
            os.write(report_write, _PID.pack(-(error.errno or errno.EINVAL)))
            os.write(report_write, f"{error.strerror} {error.filename or ''}".strip().encode())
            os._exit(1)
        if pid == 0:
            os.close(report_write)
            return 0, -1
        os.write(report_write, _PID.pack(pid))
        os._exit(0)
    os.close(report_write)
    try:
        answer = os.read(report_read, _PID.size)
        text = os.read(report_read, 4096).decode(errors="replace")
    finally:
        os.close(report_read)
        os.waitpid(helper, 0)
    if len(answer) < _PID.size:
        raise OSError(errno.EIO, "the process that makes the namespaces died")
    (pid,) = _PID.unpack(answer)
    if pid < 0:
        raise OSError(-pid, text)
    leaf.forget_fd()
    return pid, pidfd_open(pid)


def _enter_and_clone(plan: "LaunchPlan", leaf: "Leaf") -> int:
    """Return the init's pid, and 0 in the init itself."""
    handles = [(os.open(path, os.O_RDONLY | os.O_CLOEXEC), kind) for path, kind in plan["join"]]
    # Those that belong to the host are out of reach from inside another user namespace; those
    # that belong to that one are only entered from inside.
    left = [handle for handle in handles if not _entered(*handle)]
    for handle, kind in left:
        if kind == c.CLONE_NEWUSER:
            setns(handle, kind)
    for handle, kind in left:
        if kind != c.CLONE_NEWUSER:
            setns(handle, kind)
    plan["join"] = []
    flags = plan["namespaces"]
    if flags & c.CLONE_NEWTIME:
        _new_clocks(plan["time_offsets"])
    # CLONE_PARENT makes it the child of our parent, who then knows it under this number.
    return clone3(flags & ~c.CLONE_NEWTIME | c.CLONE_PARENT, 0)[0]


def _entered(handle: int, kind: int) -> bool:
    if kind == c.CLONE_NEWUSER:
        return False
    with tolerate(PermissionError):
        setns(handle, kind)
        return True
    return False


def _new_clocks(offsets: str) -> None:
    """Make a time namespace for our children; its offsets are set before any is in it."""
    unshare(c.CLONE_NEWTIME)
    if offsets:
        fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, offsets.encode())
        finally:
            os.close(fd)
