"""clone3, unshare, setns and the names inside a UTS namespace."""

import os

from runtime.linux import constants as c
from runtime.linux.libc import libc, locked_libc, oserror
from store import cdata


class _CloneArgs(cdata.Structure):
    _fields_ = tuple(
        (name, cdata.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


def clone3(flags: int, exit_signal: int, cgroup_fd: int | None = None) -> tuple[int, int]:
    """Fork with new namespaces; return (pid, pidfd) to the parent and (0, -1) to the child.

    Only for a process of a single thread: the child goes on in this very interpreter.
    """
    pidfd = cdata.c_int(-1)
    args = _CloneArgs(
        flags=flags | c.CLONE_PIDFD,
        pidfd=cdata.addressof(pidfd),
        exit_signal=exit_signal,
    )
    if cgroup_fd is not None:
        args.flags |= c.CLONE_INTO_CGROUP
        args.cgroup = cgroup_fd
    pid: int = locked_libc.syscall(
        cdata.c_long(c.SYS_clone3), cdata.byref(args), cdata.c_long(cdata.sizeof(args))
    )
    if pid < 0:
        raise oserror("clone3")
    return pid, pidfd.value


def unshare(flags: int) -> None:
    if libc.unshare(flags) < 0:
        raise oserror("unshare", hex(flags))


def setns(fd: int, kind: int) -> None:
    if libc.setns(fd, kind) < 0:
        raise oserror("setns", hex(kind))


def sethostname(name: str) -> None:
    data = os.fsencode(name)
    if libc.sethostname(data, cdata.c_size_t(len(data))) < 0:
        raise oserror("sethostname", name)


def setdomainname(name: str) -> None:
    data = os.fsencode(name)
    if libc.setdomainname(data, cdata.c_size_t(len(data))) < 0:
        raise oserror("setdomainname", name)
