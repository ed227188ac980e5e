"""Starts the launcher process: a bare interpreter that turns a plan into a container.

The caller may be large and threaded, so it never forks: posix_spawn shares its memory until the
exec. The interpreter runs from a read-only detached mount of its own file, so that nothing in a
container can write to the host's Python through /proc/<pid>/exe (CVE-2019-5736's class).
"""

import _socket
import contextlib
import fcntl
import os
import signal
import threading
from typing import TYPE_CHECKING

from runtime.errors import LaunchFailed
from runtime.launch.channel import receive_descriptors, send, send_descriptors
from runtime.sealedpython import (
    copied_interpreter,
    interpreter,
    library_environment,
    sealed_interpreter,
)

if TYPE_CHECKING:
    from types import TracebackType

    from runtime.plan import JoinPlan, LaunchPlan, NetworkPlan

_HOUSE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Appended, so that nothing beside the rooms can stand in for the standard library.
_CODE = (
    "import gc,sys;gc.disable();a=sys.argv;sys.path.append(a[1]);"
    "from runtime.launch.{} import main;main(int(a[2]),int(a[3]))"
)


def _clear_of_stdio(fd: int) -> int:
    """Return a copy of `fd` numbered above 2, where no redirection can overwrite it."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


class Launcher:
    """A launcher process that waits for its one plan.

    A context manager: on exit the container is dead and all is gone.
    pid: of the launcher. report: descriptor on which its messages arrive.
    """

    def __init__(self, role: str = "parent") -> None:
        """Start it; an interpreter takes some milliseconds until it listens.

        role: the module below runtime.launch that it is: `parent`, `joined` for a process in a
        container that runs, `chrooted` where there are no namespaces, or `network` for what keeps
        one.
        """
        self._role = role
        # The C module: the one around it takes 5 ms to import.
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        orders_end = theirs.detach()
        self._orders = ours.detach()
        self.report, report_write = os.pipe2(os.O_CLOEXEC)
        temporary = [orders_end, report_write]
        try:
            temporary += (high := [_clear_of_stdio(fd) for fd in (orders_end, report_write)])
            temporary.append(null := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
            # Where nothing can be mounted, the copy is in memory.
            image = copied_interpreter() if role == "chrooted" else sealed_interpreter()
            temporary.append(image)
            actions = [
                *((os.POSIX_SPAWN_DUP2, null, number) for number in range(3)),
                *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in high),  # onto itself: survives the exec
            ]
            self.pid = self._spawn(image, actions, high)
        except BaseException:
            os.close(self._orders)
            os.close(self.report)
            raise
        finally:
            for fd in temporary:
                os.close(fd)
        self._reaped = False

    @classmethod
    def resumed(cls, pid: int, orders: int, report: int) -> "Launcher":
        """Return the launcher that this process started before an execve."""
        launcher = cls.__new__(cls)
        launcher.pid, launcher._orders, launcher.report = pid, orders, report
        launcher._reaped = False
        return launcher

    @property
    def orders(self) -> int:
        """Its descriptor for orders, -1 when it was told to end."""
        return self._orders

    def launch(
        self,
        plan: "LaunchPlan | JoinPlan | NetworkPlan",
        stdio: tuple[int, int, int],
        keep: tuple[int, ...] = (),
    ) -> None:
        """Tell it what to do.

        stdio: descriptors that become the container's 0, 1 and 2.
        keep: more descriptors that the launcher holds until the container is gone.
        """
        try:
            with contextlib.suppress(BrokenPipeError):  # it died; the end of its report says so
                send_descriptors(self._orders, (*stdio, *keep))
                send(self._orders, (plan, keep))
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """End a launcher that was never told anything, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.__exit__()

    def _spawn(self, image: int, actions: list[tuple[int, int, int]], channel: list[int]) -> int:
        argv = [interpreter(), "-I", "-S", "-X", "utf8", "-c", _CODE.format(self._role)]
        argv += [_HOUSE, *map(str, channel)]
        try:
            # setsid: Ctrl-C at the terminal is the caller's to forward. The default actions:
            # Python ignores SIGPIPE, and an ignored signal would stay so in the container.
            return os.posix_spawn(
                f"/proc/self/fd/{image}",
                argv,
                {**library_environment(), "LC_ALL": "C.UTF-8"},
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGQUIT, signal.SIGXFSZ],
            )
        except OSError as error:
            raise LaunchFailed(f"start launcher {interpreter()}: {error.strerror}") from error

    def received(self) -> tuple[int, ...]:
        """Return descriptors that it sent; none when it has ended. Waits for either."""
        return receive_descriptors(self._orders) or ()

    def handle(self) -> tuple[int, int]:
        """Return the descriptor that ends it when it is closed, and its pid."""
        return self._orders, self.pid

    def succeeded_by(self, pid: int) -> None:
        """Wait for its end; `pid`, a child of ours too, is in its place from now on."""
        os.waitpid(self.pid, 0)
        self.pid = pid

    def forward(self, signal_number: int) -> None:
        """Have the container's first process signalled."""
        if self._orders >= 0:
            with contextlib.suppress(BrokenPipeError):  # it has just ended
                os.write(self._orders, bytes([signal_number]))

    def kill(self) -> None:
        """Have the container killed; its end is reported as any other."""
        if self._orders >= 0:
            os.close(self._orders)
            self._orders = -1

    def has_ended(self) -> bool:
        """Tell whether it is dead, without waiting."""
        if not self._reaped:
            with contextlib.suppress(ChildProcessError):  # who waits for it is somebody else
                self._reaped = os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return self._reaped

    def wait(self) -> None:
        """Return when the launcher is gone, and with it every descriptor it held."""
        self.kill()
        if not self._reaped:
            self._reaped = True
            with contextlib.suppress(ChildProcessError):  # SIGCHLD ignored: the kernel reaped it
                os.waitpid(self.pid, 0)

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        os.close(self.report)


class Launchers:
    """Launchers started ahead of their need, so that no container waits for an interpreter.

    A context manager that ends the one that waits. May be used from any thread.
    refill: whether another is wanted after one was taken: many containers will follow.
    """

    def __init__(self, *, refill: bool = False) -> None:
        self.refill = refill
        self._lock = threading.Lock()
        self._waiting: Launcher | None = None
        self._open = True

    def prepare(self) -> None:
        """Have a launcher waiting."""
        with self._lock:
            if self._open and self._waiting is None:
                self._waiting = Launcher()

    def take(self) -> Launcher:
        """Return the launcher that waits, or a new one."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        return waiting or Launcher()

    def close(self) -> None:
        """End the launcher that waits; none is made ahead any more."""
        with self._lock:
            self._open = False
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.discard()

    def __enter__(self) -> "Launchers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        self.close()
