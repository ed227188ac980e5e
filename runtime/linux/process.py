"""Calls about processes: prctl, pidfds, descriptors, limits, seccomp."""

import os
import sys

from runtime.linux import constants as c
from runtime.linux.libc import libc, oserror, syscall
from store import cdata


class _SockFprog(cdata.Structure):
    _fields_ = (("len", cdata.c_ushort), ("filter", cdata.c_char_p))


class _Rlimit(cdata.Structure):
    _fields_ = (("cur", cdata.c_uint64), ("max", cdata.c_uint64))


def prctl(option: int, *args: int) -> int:
    padded = [cdata.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]]
    result: int = libc.prctl(option, *padded)
    if result < 0:
        raise oserror("prctl", str(option))
    return result


def pidfd_open(pid: int) -> int:
    return syscall("pidfd_open", str(pid), c.SYS_pidfd_open, pid, 0)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """Return a copy of descriptor `fd` of the process `pidfd`."""
    return syscall("pidfd_getfd", str(fd), c.SYS_pidfd_getfd, pidfd, fd, 0)


def pidfd_send_signal(pidfd: int, signal_number: int) -> None:
    syscall(
        "pidfd_send_signal",
        str(signal_number),
        c.SYS_pidfd_send_signal,
        pidfd,
        signal_number,
        None,
        0,
    )


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    syscall("close_range", str(first), c.SYS_close_range, first, last, flags)


def take_stdio(passed: "tuple[int, ...]", kept: "tuple[int, int]") -> None:
    """Make the first three of `passed` standard input, output and error; close all but `kept`."""
    for number, fd in enumerate(passed[:3]):
        os.dup2(fd, number)
    low, high = sorted(kept)
    for first, last in ((3, low - 1), (low + 1, high - 1)):
        if first <= last:
            close_range(first, last)
    close_range(high + 1)


def default_action(signal_number: int) -> None:
    """Give a signal its default action, also those that libc keeps to itself (32 and 33)."""
    action = bytes(152)  # struct sigaction of any architecture: SIG_DFL, no flags, empty mask
    syscall("rt_sigaction", str(signal_number), c.SYS_rt_sigaction, signal_number, action, None, 8)


def setrlimit(resource: int, soft: int, hard: int) -> None:
    limit = _Rlimit(soft & 0xFFFFFFFFFFFFFFFF, hard & 0xFFFFFFFFFFFFFFFF)
    if libc.prlimit64(0, resource, cdata.byref(limit), None) < 0:
        raise oserror("prlimit", str(resource))


def getrlimit(resource: int) -> tuple[int, int]:
    limit = _Rlimit()
    if libc.prlimit64(0, resource, None, cdata.byref(limit)) < 0:
        raise oserror("prlimit", str(resource))
    return limit.cur, limit.max


def set_seccomp_filter(program: bytes) -> None:
    """Load a classic BPF program of 8-byte `struct sock_filter`s for this process."""
    fprog = _SockFprog(len(program) // 8, program)
    result = libc.prctl(
        c.PR_SET_SECCOMP,
        cdata.c_ulong(c.SECCOMP_MODE_FILTER),
        cdata.byref(fprog),
        cdata.c_ulong(0),
        cdata.c_ulong(0),
    )
    if result < 0:
        raise oserror("prctl", "PR_SET_SECCOMP")


def seccomp_set_filter(program: bytes, flags: int) -> int:
    """Load a filter by seccomp(2); return the listener where `flags` ask for one, else 0."""
    fprog = _SockFprog(len(program) // 8, program)
    return syscall(
        "seccomp",
        hex(flags),
        c.SYS_seccomp,
        c.SECCOMP_SET_MODE_FILTER,
        flags,
        cdata.byref(fprog),
    )


class _SchedAttr(cdata.Structure):
    _fields_ = (
        ("size", cdata.c_uint32),
        ("policy", cdata.c_uint32),
        ("flags", cdata.c_uint64),
        ("nice", cdata.c_int32),
        ("priority", cdata.c_uint32),
        ("runtime", cdata.c_uint64),
        ("deadline", cdata.c_uint64),
        ("period", cdata.c_uint64),
    )


def sched_setattr(attributes: tuple[int, int, int, int, int, int, int]) -> None:
    """Set our own scheduling: policy, flags, nice, priority, runtime, deadline, period (ns)."""
    value = _SchedAttr(cdata.sizeof(_SchedAttr), *attributes)
    syscall("sched_setattr", str(attributes[0]), c.SYS_sched_setattr, 0, cdata.byref(value), 0)


def ioprio_set(priority: int) -> None:
    """Set our own I/O priority: class << 13 | level."""
    who_process = 1
    syscall("ioprio_set", str(priority), c.SYS_ioprio_set, who_process, 0, priority)


def set_mempolicy(mode: int, nodes: int) -> None:
    """Set our own NUMA policy: mode with flags, nodes as bits."""
    words = nodes.bit_length() // 64 + 1
    parts = (nodes >> 64 * word & (1 << 64) - 1 for word in range(words))
    mask = b"".join(part.to_bytes(8, sys.byteorder) for part in parts) if nodes else None
    # The kernel takes one bit less than it is told.
    syscall("set_mempolicy", hex(mode), c.SYS_set_mempolicy, mode, mask, words * 64 + 1)


def personality(persona: int) -> None:
    if libc.personality(cdata.c_ulong(persona)) < 0:
        raise oserror("personality", hex(persona))
