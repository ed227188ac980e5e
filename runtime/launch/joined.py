"""The launcher of a process that joins a container: a bare interpreter between it and the caller.

It speaks as `parent` does: descriptors and a plan come, `started` goes, then `exited` or `failed`.
When the caller closes its orders, or dies, the process is killed; the container is not.
"""

import os
import select

from runtime.container import start_time
from runtime.launch.channel import receive, receive_descriptors, send
from runtime.launch.joining import Joining
from runtime.launch.process import Failed
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux.process import pidfd_open, pidfd_send_signal, take_stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import JoinPlan


def main(orders: int, report: int) -> None:
    """Entry point of the process."""
    code = 0
    try:
        passed = receive_descriptors(orders)
        if passed is not None:
            send(report, _joined(orders, report, passed))
    except BaseException as error:
        code = 1
        text = f"{type(error).__name__}: {error}"
        with tolerate(OSError):  # the caller is gone
            send(report, ("failed", "launch", text, getattr(error, "errno", None) or 0))
    os._exit(code)


def _joined(orders: int, report: int, passed: "tuple[int, ...]") -> "tuple[object, ...]":
    plan: JoinPlan
    plan, _ = receive(orders)  # type: ignore[misc,assignment]
    take_stdio(passed, (orders, report))
    caller = pidfd_open(plan["caller"])
    gone = ("failed", "gone", "the container has ended", 0)
    try:
        init = pidfd_open(plan["init"][0])
    except OSError:
        return gone
    # Asked after the descriptor was had, so the number cannot be another process's.
    started, letter = start_time(plan["init"][0])
    if started != plan["init"][1] or letter in "ZX" or os.getppid() != plan["caller"]:
        return gone
    joining = Joining(plan, init, plan["cgroups"])
    try:
        joining.start(plan["init"][0])
    except Failed as failure:
        return ("failed", *failure.args)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    send(report, ("started", joining.pid))
    _watch(joining.pidfd, orders, caller)
    _, status, usage = os.wait4(joining.pid, 0)
    seconds = usage.ru_utime + usage.ru_stime
    return "exited", status, seconds, usage.ru_maxrss * 1024, None, None, False


def _watch(pidfd: int, orders: int, caller: int) -> None:
    """Return when the process is dead, having killed it if the caller went away."""
    poller = select.poll()
    for fd in (pidfd, orders, caller):
        poller.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poller.poll()}
        if pidfd in ready:
            return
        order = os.read(orders, 1) if orders in ready else b""
        number = order[0] if order else c.SIGKILL
        with tolerate(ProcessLookupError):  # it has just ended
            pidfd_send_signal(pidfd, number)
        if not order:
            poller.unregister(orders)
            poller.unregister(caller)
