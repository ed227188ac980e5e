"""Starts the launcher process: a bare interpreter that turns a plan into a container.

The caller may be large and threaded, so it never forks: posix_spawn shares its memory until the
exec. The interpreter runs from a read-only detached mount of its own file, so that nothing in a
container can write to the host's Python through /proc/<pid>/exe (CVE-2019-5736's class).
"""

import contextlib
import errno
import fcntl
import functools
import os
import signal
import sys

from runtime.errors import LaunchFailed, NotPrivileged
from runtime.launch.channel import send
from runtime.linux import constants as c
from runtime.linux import mount as m
from runtime.plan import LaunchPlan

_HOUSE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Appended, so that nothing beside the rooms can stand in for the standard library.
_CODE = (
    "import sys;a=sys.argv;sys.path.append(a[1]);"
    "from runtime.launch.parent import main;main(int(a[2]),int(a[3]))"
)


@functools.cache
def interpreter() -> str:
    """Return the path of the real Python binary behind a virtual environment's link."""
    base: str = getattr(sys, "_base_executable", None) or sys.executable
    if not base:
        raise LaunchFailed("start launcher: the path of the Python interpreter is not known")
    return os.path.realpath(base)


def _environment() -> dict[str, str]:
    # A relocatable Python finds its library relative to /proc/self/exe, which says nothing for
    # a detached mount.
    library = os.path.join(sys.base_exec_prefix, sys.platlibdir)
    return {"LD_LIBRARY_PATH": library, "LC_ALL": "C.UTF-8"}


def _sealed_interpreter() -> int:
    """Return a descriptor of the interpreter on a read-only mount of its own."""
    tree = -1
    try:
        tree = m.open_tree(c.AT_FDCWD, interpreter(), c.OPEN_TREE_CLONE)
        m.mount_setattr(tree, c.MOUNT_ATTR_RDONLY, 0, c.MS_PRIVATE)
    except OSError as error:
        if tree >= 0:
            os.close(tree)
        if error.errno == errno.ENOSYS:  # before Linux 5.12
            return _copied_interpreter()
        raise NotPrivileged(
            f"start launcher: {error.strerror}",
            hint="containers need root (CAP_SYS_ADMIN) on this host",
        ) from error
    return tree


def _copied_interpreter() -> int:
    """Return a descriptor of a copy of the interpreter in memory, sealed against writing."""
    fd = os.memfd_create("python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(interpreter(), "rb") as file:
        while os.sendfile(fd, file.fileno(), None, 1 << 24):
            pass
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def _clear_of_stdio(fd: int) -> int:
    """Return a copy of `fd` numbered above 2, where no redirection can overwrite it."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


class Launcher:
    """A running launcher. A context manager: on exit the container is dead and all is gone.

    pid: of the launcher. report: descriptor on which its messages arrive.
    """

    def __init__(
        self, plan: LaunchPlan, stdio: tuple[int, int, int], keep: tuple[int, ...] = ()
    ) -> None:
        """Start it.

        stdio: descriptors that become the container's 0, 1 and 2.
        keep: more descriptors that the launcher inherits under their own numbers.
        """
        plan["inherited"] = list(keep)
        orders_read, self._orders = os.pipe2(os.O_CLOEXEC)
        self.report, report_write = os.pipe2(os.O_CLOEXEC)
        temporary = [orders_read, report_write]
        try:
            temporary += (high := [_clear_of_stdio(fd) for fd in (orders_read, report_write)])
            temporary += (standard := [_clear_of_stdio(fd) for fd in stdio])
            temporary.append(image := _sealed_interpreter())
            actions = [
                (os.POSIX_SPAWN_DUP2, old, new)
                for old, new in [
                    *((fd, number) for number, fd in enumerate(standard)),
                    *((fd, fd) for fd in (*high, *keep)),  # onto itself: survives the exec
                ]
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
        with contextlib.suppress(BrokenPipeError):  # it died; the end of its report says so
            send(self._orders, (plan,))

    def _spawn(self, image: int, actions: list[tuple[int, int, int]], channel: list[int]) -> int:
        argv = [interpreter(), "-I", "-S", "-X", "utf8", "-c", _CODE, _HOUSE, *map(str, channel)]
        try:
            # setsid: Ctrl-C at the terminal is the caller's to forward. The default actions:
            # Python ignores SIGPIPE, and an ignored signal would stay so in the container.
            return os.posix_spawn(
                f"/proc/self/fd/{image}",
                argv,
                _environment(),
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGQUIT, signal.SIGXFSZ],
            )
        except OSError as error:
            raise LaunchFailed(f"start launcher {interpreter()}: {error.strerror}") from error

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
