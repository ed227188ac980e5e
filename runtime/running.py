"""A container while it runs, seen from the caller: output, terminal, signals, its end."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Callable
from typing import cast

from runtime.cancel import Cancel
from runtime.errors import (
    Cancelled,
    CommandNotExecutable,
    CommandNotFound,
    LaunchFailed,
    MountFailed,
    NotPrivileged,
    RuntimeFailure,
    UserNotFound,
    WorkingDirectoryFailed,
    WrongState,
)
from runtime.launch import cgroupfiles
from runtime.launch.channel import receive
from runtime.launch.dormant import IDLE_S
from runtime.launcher import Launcher, Launchers
from runtime.linux.process import pidfd_open, pidfd_send_signal
from runtime.terminal import Terminal
from values.classes import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import CgroupPlan, JoinPlan, LaunchPlan, ProcessPlan

    # pid of the launcher, descriptors for orders, of its report and of the init, the cgroup
    RunningState = tuple[int, int, int, int, CgroupPlan | None]

OnOutput = Callable[[int, bytes], None]
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How the process ended.

    code: 0 to 255, 128 + n when signal n killed it. signal: that n, or None.
    peak_memory_bytes: of the cgroup, where one counts it, else of the biggest process.
    out_of_memory: the kernel killed a process of the container for want of memory. timed_out: the
    container was killed when its time was over.
    """

    code: int
    signal: int | None
    peak_memory_bytes: int | None
    cpu_seconds: float
    out_of_memory: bool = False
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Stdio:
    """Where the container reads and writes.

    stdin: None is an empty input. stdout, stderr: the container gets these descriptors, unless
    `on_output` is given: then it gets pipes, and what it writes is passed to that function.
    """

    stdin: int | None = None
    stdout: int = 1
    stderr: int = 2
    on_output: OnOutput | None = None


class Running:
    """A container and its launcher; a context manager that leaves nothing of either.

    Or a process that joined a container: then it is that process, and the container stays.
    """

    def __init__(
        self,
        plan: LaunchPlan | JoinPlan,
        stdio: Stdio,
        lock_fds: tuple[int, ...] = (),
        launchers: Launchers | None = None,
        on_started: Callable[[int], None] | None = None,
    ) -> None:
        """Start what `plan` describes, through one of `launchers` where given.

        on_started: told the pid of the command, on the host, in the thread that waits.
        """
        self._on_started = on_started
        self._begin(stdio, cast("LaunchPlan", plan)["cgroup"] if "cgroup" in plan else None)
        keep: tuple[int, ...] = ()
        with contextlib.ExitStack() as stack:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, null)
            try:
                if plan["tty"]:
                    descriptors, keep = (null, null, null), self._make_terminal(plan, stack)
                else:
                    stdin = null if stdio.stdin is None else stdio.stdin
                    descriptors = (stdin, *self._outputs(stack))
                self._launcher = launchers.take() if launchers else Launcher(_role(plan))
                self._launcher.launch(plan, descriptors, (*lock_fds, *keep))
            except BaseException:
                self._owned.close()
                raise
        self._watch(self._launcher.report, self._hear)
        if launchers and launchers.refill:
            launchers.prepare()  # for the next, while this one works

    def _begin(self, stdio: Stdio, leaf: CgroupPlan | None) -> None:
        self._stdio = stdio
        self._cgroup = leaf
        self._poller = select.poll()
        self._owned = contextlib.ExitStack()  # descriptors of ours to close at the end
        self._readers: dict[int, Callable[[], bool]] = {}  # descriptor → take; False at its end
        self._end: tuple[object, ...] | None = None
        self._pidfd = -1
        self._cancelled = False
        self._timed_out = False
        self._terminal: Terminal | None = None

    @classmethod
    def resumed(cls, state: RunningState) -> Running:
        """Return the container that this process watched over before an execve."""
        pid, orders, report, pidfd, leaf = state
        running = cls.__new__(cls)
        running._on_started = None
        running._begin(Stdio(), leaf)
        running._pidfd = pidfd
        running._owned.callback(os.close, pidfd)
        running._launcher = Launcher.resumed(pid, orders, report)
        running._watch(report, running._hear)
        return running

    def state(self) -> RunningState | None:
        """Return what `resumed` needs; None where more than the end of a command is waited for."""
        if self._pidfd < 0 or len(self._readers) > 1 or self._launcher.orders < 0:
            return None
        launcher = self._launcher
        return launcher.pid, launcher.orders, launcher.report, self._pidfd, self._cgroup

    def _watch(self, fd: int, take: Callable[[], bool]) -> None:
        self._readers[fd] = take
        self._poller.register(fd, select.POLLIN)

    def _outputs(self, stack: contextlib.ExitStack) -> tuple[int, int]:
        if self._stdio.on_output is None:
            return self._stdio.stdout, self._stdio.stderr
        ends = []
        for number in (1, 2):
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, write_end)
            self._owned.callback(os.close, read_end)
            self._watch(read_end, self._output_reader(read_end, number))
            ends.append(write_end)
        return ends[0], ends[1]

    def _output_reader(self, fd: int, number: int) -> Callable[[], bool]:
        def take() -> bool:
            data = os.read(fd, _CHUNK)
            if data:
                self._emit(number, data)
            return bool(data)

        return take

    def _emit(self, number: int, data: bytes) -> None:
        if self._stdio.on_output is not None:
            self._stdio.on_output(number, data)
            return
        left = memoryview(data)
        while left:
            left = left[os.write(self._stdio.stdout, left) :]

    def _make_terminal(self, plan: ProcessPlan, stack: contextlib.ExitStack) -> tuple[int]:
        import socket  # 5 ms, and only a terminal needs it

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        stack.callback(theirs.close)
        plan["tty_socket"] = theirs.fileno()
        self._owned.callback(ours.close)

        def take() -> bool:
            received = array.array("i")
            _, extra, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(received.itemsize))
            for level, kind, data in extra:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    received.frombytes(data)
            if received:
                self._attach_terminal(received[0])
            return False

        self._watch(ours.fileno(), take)
        return (plan["tty_socket"],)

    def _attach_terminal(self, master: int) -> None:
        self._terminal = terminal = Terminal(master, self._poller)
        self._owned.callback(terminal.close)

        def to_output() -> bool:
            data = terminal.read()
            if data:
                self._emit(1, data)
            return data is not None

        self._watch(master, to_output)
        stdin = self._stdio.stdin
        if stdin is not None:
            self._watch(stdin, lambda: terminal.feed_from(stdin))

    def forward(self, signal_number: int) -> None:
        """Signal the command; safe in a signal handler."""
        self._launcher.forward(signal_number)

    def kill(self) -> None:
        """Kill the container; `wait` then returns soon."""
        self._launcher.kill()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the container's terminal its new size."""
        if self._terminal is not None:
            self._terminal.resize(rows, columns)

    def wait(
        self,
        cancel: Cancel | None = None,
        timeout_s: float | None = None,
        rest: Callable[[], None] | None = None,
    ) -> ExitStatus:
        """Pass data on until the container is gone; return how its process ended.

        timeout_s: how long from now until it is killed. rest: called when nothing has happened for
        a while, to go on elsewhere with `state`; may return.
        Raises a RuntimeFailure when the command was never started.
        """
        if cancel is not None:
            self._watch(cancel.fd, self._cancel)
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        if rest is not None and ends is None:
            self._rest_while_quiet(rest)
        while self._launcher.report in self._readers:
            left_s = None if ends is None else ends - time.monotonic()
            if left_s is not None and left_s <= 0:
                self._timed_out, ends, left_s = True, None, None
                self._launcher.kill()
            self._take(self._poller.poll(None if left_s is None else left_s * 1000 + 1))
        self._launcher.wait()
        for fd in (self._stdio.stdin, cancel.fd if cancel else None):
            if fd in self._readers:
                self._forget(fd)
        # Everything that was written is there by now. The end of the pipes is not waited for: a
        # process that our caller forked meanwhile may hold their other ends for long.
        while events := self._poller.poll(0):
            self._take(events)
        return self._conclude()

    def _rest_while_quiet(self, rest: Callable[[], None]) -> None:
        """Pass data on until there was none for a while, and then call `rest`."""
        while self._launcher.report in self._readers:
            events = self._poller.poll(IDLE_S * 1000)
            if not events:
                rest()
                return
            self._take(events)

    def _take(self, events: list[tuple[int, int]]) -> None:
        for fd, event in events:
            if self._terminal is not None and fd == self._terminal.master:
                self._terminal.flush()
                if event == select.POLLOUT:
                    continue
            if fd in self._readers and not self._readers[fd]():
                self._forget(fd)

    def _forget(self, fd: int) -> None:
        del self._readers[fd]
        self._poller.unregister(fd)

    def _cancel(self) -> bool:
        self._cancelled = True
        self._launcher.kill()
        return False

    def _hear(self) -> bool:
        """Take one message of the launcher; False at the end of them."""
        try:
            message = receive(self._launcher.report)
        except EOFError:
            message = None  # killed in the middle of a word
        if message is None:
            return False
        if message[0] == "started":
            with contextlib.suppress(OSError):  # it has ended already
                self._pidfd = pidfd_open(cast(int, message[1]))
                self._owned.callback(os.close, self._pidfd)
            if self._on_started is not None:
                self._on_started(cast(int, message[1]))
        else:
            self._end = message
        return True

    def _conclude(self) -> ExitStatus:
        if self._end is None:
            self._bury()
            if self._cancelled:
                raise Cancelled("run: cancelled before the command started")
            if self._timed_out:
                return ExitStatus(128 + signal.SIGKILL, signal.SIGKILL, None, 0.0, timed_out=True)
            raise LaunchFailed(
                "run: the launcher died", hint="it was killed, maybe for want of memory"
            )
        if self._end[0] == "failed":
            _, kind, text, code = self._end
            if self._cancelled:
                raise Cancelled("run: cancelled before the command started")
            raise failure(cast(str, kind), cast(str, text), cast(int, code))
        return replace(exit_status(self._end), timed_out=self._timed_out)

    def _bury(self) -> None:
        """Do what the launcher should have done, had it not been killed."""
        if self._pidfd >= 0:
            # A command that changed its identity by a set-user-ID file has lost the signal that
            # ties it to its launcher.
            with contextlib.suppress(OSError):
                pidfd_send_signal(self._pidfd, signal.SIGKILL)
                select.select([self._pidfd], [], [])
        if self._cgroup is not None:
            cgroupfiles.remove_leaf(self._cgroup["parent"], self._cgroup["name"])

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._launcher.__exit__()
        self._owned.close()


def _role(plan: LaunchPlan | JoinPlan) -> str:
    if "cgroup" not in plan:
        return "joined"
    return "chrooted" if cast("LaunchPlan", plan)["chroot"] else "parent"


def exit_status(message: tuple[object, ...]) -> ExitStatus:
    """Return the launcher's `exited` message as a value."""
    _, status, cpu_seconds, biggest, peak, counted, out_of_memory = message
    code = os.waitstatus_to_exitcode(cast(int, status))
    return ExitStatus(
        code=code if code >= 0 else 128 - code,
        signal=-code if code < 0 else None,
        peak_memory_bytes=cast("int | None", peak) or cast(int, biggest),
        cpu_seconds=cast("float | None", counted) or cast(float, cpu_seconds),
        out_of_memory=bool(out_of_memory),
    )


_FAILURES: dict[str, type[RuntimeFailure]] = {
    "mount": MountFailed,
    "user": UserNotFound,
    "workdir": WorkingDirectoryFailed,
    "not-found": CommandNotFound,
    "not-executable": CommandNotExecutable,
    "gone": WrongState,
}
_HINTS = {
    "user": "the name must be in the image's /etc/passwd or /etc/group; numbers always work",
    "apparmor": "apparmor_parser loads profiles; aa-status lists them",
    "workdir": "WORKDIR makes the directory; or name another one",
    "no-id": "lines in /etc/subuid and /etc/subgid give more; pybuild info says what is missing",
    "cgroup": "limits need a writable cgroup tree of their controller; without root, one that is "
    "handed to the user: systemd-run --user --scope -p Delegate=yes",
}


def failure(kind: str, text: str, code: int) -> RuntimeFailure:
    """Return the exception for a `failed` message: its kind, its line and its errno."""
    if code in (errno.EPERM, errno.EACCES) and kind == "clone":
        return NotPrivileged(text, hint="containers need root (CAP_SYS_ADMIN) on this host")
    return _FAILURES.get(kind, LaunchFailed)(text, hint=_HINTS.get(kind))
