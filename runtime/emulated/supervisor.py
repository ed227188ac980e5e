"""Answers the calls about owners and identities where a container has a single id.

A process beside the launcher: in the container's mount namespace, outside of its pid namespace,
where nothing in the container can see it. It does what the caller could do itself, by the caller's
own root, working directory and descriptors, and notes an owner beside; so a path can lead it
nowhere that it does not lead the caller. From its entry on nothing is imported.

Source: seccomp_unotify(2).
"""

import errno
import os
import select
import struct

from runtime.emulated import handlers, identity
from runtime.emulated.world import Native, World
from runtime.launch.init import forget_imports
from runtime.launch.tolerate import tolerate
from runtime.linux import capabilities as caps
from runtime.linux import constants as c
from runtime.linux import seccomp_notify, syscalls
from runtime.linux.namespaces import setns
from runtime.linux.process import close_range, pidfd_getfd, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.emulated.handlers import Handler
    from runtime.plan import ProcessPlan

# Machine → its audit architecture and, where programs of another can run, that one.
_ARCHITECTURES = {
    "x86_64": (("x86_64", 0xC000003E), ("x86", 0x40000003)),
    "aarch64": (("aarch64", 0xC00000B7), ("arm", 0x40000028)),
}


def start(
    plan: "ProcessPlan", message: "tuple[object, ...]", pidfd: int, *, stays: bool = False
) -> int:
    """Fork the supervisor of the filter of a process `pidfd`; return its pid.

    message: of the process: the number of its listener, and who it is to be. stays: until nobody
    has the filter any more, else it dies with us. Raises OSError.
    """
    _, number, uid, gid, groups = message
    listener = pidfd_getfd(pidfd, number)  # type: ignore[arg-type]
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            if not stays:
                prctl(c.PR_SET_PDEATHSIG, c.SIGKILL)
            who = identity.one(uid, gid, tuple(groups))  # type: ignore[arg-type]
            _supervise(plan, (listener, proc, pidfd), who)
        finally:
            os._exit(1)
    os.close(listener)
    os.close(proc)
    return pid


def _supervise(
    plan: "ProcessPlan", descriptors: "tuple[int, int, int]", who: identity.Identity
) -> None:
    listener, proc, pidfd = descriptors
    rights = _rights(plan, pidfd)
    handlers = _handlers()
    forget_imports()
    setns(pidfd, c.CLONE_NEWNS)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(proc)
    _close_all_but(listener, proc, root)
    caps.capset(rights, rights, 0)
    with tolerate(OSError):
        seccomp_notify.wake_at_once(listener)
    world = World((listener, proc, root), identity.Processes(who, proc), plan)
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    while True:
        for _, happened in poller.poll():
            if not happened & select.POLLIN:
                os._exit(0)
        with tolerate(FileNotFoundError):  # who called was killed meanwhile
            _answer(world, handlers, seccomp_notify.next_call(listener))


def _handlers() -> "dict[tuple[int, int], Handler]":
    found: dict[tuple[int, int], Handler] = {}
    for abi, audit in _ARCHITECTURES.get(os.uname().machine, ()):
        named = handlers.HANDLERS if abi in _ARCHITECTURES else handlers.HANDLERS_32
        for name, number in syscalls.numbers(abi).items():
            if name in named:
                found[audit, number] = named[name]
    return found


def _answer(
    world: World,
    handlers: "dict[tuple[int, int], Handler]",
    call: seccomp_notify.Call,
) -> None:
    listener = world.listener
    handler = handlers.get((call[3], call[2]))
    if handler is None:
        seccomp_notify.let_through(listener, call[0])
        return
    try:
        value = handler(world, call)
    except OSError as error:
        seccomp_notify.answer(listener, call[0], error=error.errno or errno.EIO)
    except (Native, ArithmeticError, ValueError, struct.error):  # or what is no argument at all
        seccomp_notify.let_through(listener, call[0])
    else:
        if value is not None:
            seccomp_notify.answer(listener, call[0], value)
    finally:
        world.return_home()


def _rights(plan: "ProcessPlan", pidfd: int) -> int:
    """Return the capabilities to keep: those of the container, and what looking at it takes.

    Where its processes see us, and what else is here, we may look at no other than they.
    """
    with open(f"/proc/self/fdinfo/{pidfd}", "rb", buffering=0) as file:
        numbers = file.read().partition(b"NSpid:")[2].partition(b"\n")[0].split()
    names = ("CAP_SYS_CHROOT", "CAP_SYS_PTRACE") if len(numbers) > 1 else ("CAP_SYS_CHROOT",)
    return plan["capabilities"]["permitted"] | caps.mask(names)


def _close_all_but(*kept: int) -> None:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    first = 3
    for fd in sorted(kept):
        if fd > first:
            close_range(first, fd - 1)
        first = fd + 1
    close_range(first)
