"""The launcher: a bare interpreter between the caller and one container.

It reads a plan, clones the container's init, waits for it, forwards signals, and takes everything
away again. It holds the caller's locks until the container is gone. When the caller dies, in
whatever way, the container is killed; when the launcher dies, the kernel kills the init. Where the
container runs for long, the launcher is dormant meanwhile (`dormant`).
"""

import os
import select

from runtime.launch import cgroup, dormant, init
from runtime.launch.channel import receive, receive_descriptors, send
from runtime.launch.cloning import clone_init
from runtime.launch.filesystem import close_sources, open_root, open_sources, open_views
from runtime.launch.idmap import write_maps
from runtime.launch.stubs import Stub, remove_stubs
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux.capabilities import NUMBERS
from runtime.linux.process import close_range, pidfd_open, pidfd_send_signal, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from runtime.plan import LaunchPlan


class Launch:
    """One container, from the plan to its exit status.

    orders: socket from the caller: descriptors, the plan, then signals to forward; its end kills.
    report: pipe to the caller. rest: called when nothing has happened for a while; may not return.
    """

    def __init__(self, orders: int, report: int) -> None:
        self.orders = orders
        self.report = report
        self.stubs: list[Stub] = []
        self.failure: tuple[object, ...] | None = None
        self.rest: Callable[[int, int], None] | None = None
        self._supervise: Callable[[tuple[object, ...]], int] | None = None
        self._supervisor = 0

    def run(self) -> None:
        """Do everything; the last message sent is `failed` or `exited`."""
        prctl(c.PR_SET_DUMPABLE, 0)
        begun = self.begin()
        if begun is None:
            return
        plan, caller = begun
        if plan["tty"]:
            import _socket  # noqa: F401 - the init sends the terminal with it, and cannot import
        try:
            root = open_root(plan["root"])
            open_views(plan["mounts"])
        except OSError as error:
            subject = f" ({error.filename})" if error.filename else ""
            self.fail("mount", f"mount root file system: {error.strerror}{subject}", error)
            return
        try:
            open_sources(plan)
        except OSError as error:
            self.fail("mount", f"mount on {error.filename}: {error.strerror}", error)
            return
        try:
            with cgroup.Leaf(plan["cgroup"]) as leaf:
                plan["cgroup_view"] = leaf.view(plan)
                if not leaf.guards_devices and plan["cgroup"]["v1_devices"]:
                    _guard_devices_by_mount(plan)
                # A dormant one can be looked into (ptrace), by who sees it.
                if not plan["shares_processes"]:
                    self.rest = lambda pid, fd: self._become_dormant(pid, fd, root, caller, leaf)
                status = self.contain(plan, root, caller, leaf)
                usage = self.tidy(root, leaf)
        except cgroup.NoCgroup as error:
            self.fail("cgroup", f"limits: {error.strerror} ({error.filename})", error)
            return
        self.finish(status, usage)

    def tidy(self, root: int, leaf: cgroup.Leaf) -> "tuple[int | None, float | None, bool]":
        """Take away what a container that is gone has left; return what it has used."""
        remove_stubs(root, self.stubs)
        os.close(root)
        return leaf.usage()

    def begin(self) -> "tuple[LaunchPlan, int] | None":
        """Return the plan and a descriptor of the caller; None where there is nothing to do."""
        passed = receive_descriptors(self.orders)
        if passed is None:
            return None
        plan = self._receive_plan(passed)
        caller = pidfd_open(plan["caller"])
        # The pid could be another process's by now: only a living parent is the caller.
        return (plan, caller) if os.getppid() == plan["caller"] else None

    def finish(
        self,
        status: "tuple[int, float, int] | None",
        usage: "tuple[int | None, float | None, bool]",
    ) -> None:
        """Tell the caller how it ended."""
        if self.failure is not None:
            send(self.report, self.failure)
        elif status is not None:
            send(self.report, ("exited", *status, *usage))

    def clone(self, plan: "LaunchPlan", leaf: cgroup.Leaf) -> "tuple[int, int]":
        """Return (pid, pidfd) to the launcher, (0, -1) to the new init. Raises OSError."""
        return clone_init(plan, leaf)

    def _receive_plan(self, passed: "tuple[int, ...]") -> "LaunchPlan":
        """Return the plan, and take what was passed: stdio, and what the caller holds."""
        plan: LaunchPlan
        theirs: tuple[int, ...]
        plan, theirs = receive(self.orders)  # type: ignore[misc,assignment]
        for number, fd in enumerate(passed[:3]):
            os.dup2(fd, number)
        held = passed[3:]
        self._close_all_but(list(held))
        if plan["tty"]:
            plan["tty_socket"] = held[theirs.index(plan["tty_socket"])]
        ours = {f"/proc/self/fd/{fd}": f"/proc/self/fd/{held[n]}" for n, fd in enumerate(theirs)}
        plan["join"] = [(ours.get(path, path), kind) for path, kind in plan["join"]]
        return plan

    def _close_all_but(self, inherited: "list[int]") -> None:
        """Close what somebody in the caller's process left open to its children, and copies."""
        first = 3
        for fd in sorted({self.orders, self.report, *inherited}):
            if fd > first:
                close_range(first, fd - 1)
            first = fd + 1
        close_range(first)

    def fail(self, kind: str, text: str, error: OSError) -> None:
        """Tell the caller that it cannot be done."""
        send(self.report, ("failed", kind, text, error.errno or 0))

    def contain(
        self, plan: "LaunchPlan", root: int, caller: int, leaf: cgroup.Leaf
    ) -> "tuple[int, float, int] | None":
        """Start the container and wait for its end; return status, CPU seconds, peak in bytes."""
        if plan["shares_processes"]:
            # Most containers do without; the init needs it too, and cannot import.
            from runtime.launch.descendants import adopt_descendants

            adopt_descendants()
        go_read, go_write = os.pipe()
        said_read, said_write = os.pipe()
        try:
            pid, pidfd = self.clone(plan, leaf)
        except OSError as error:
            self.fail("clone", f"new namespaces: {error.strerror}", error)
            return None
        if pid == 0:
            os.close(go_write)
            os.close(said_read)
            init.run(plan, root, go_read, said_write, leaf.enter)
        os.close(go_read)
        os.close(said_write)
        close_sources(plan)
        self._let_go_of_stdio()
        try:
            leaf.attach(pid)
            if plan["id_map"] is not None and plan["namespaces"] & c.CLONE_NEWUSER:
                write_maps(pid, plan["id_map"])
            os.write(go_write, b"g")
        except OSError as error:
            self.failure = ("failed", "cgroup", f"cgroup: {error.strerror}", error.errno or 0)
            pidfd_send_signal(pidfd, c.SIGKILL)
        self._supervise = lambda message: _start_supervisor(plan, message, pidfd, go_write)
        self._watch(pid, pidfd, said_read, caller)
        ended = self.bury(pid, leaf)
        if plan["shares_processes"]:
            from runtime.launch.descendants import end_children

            end_children()
        return ended

    def bury(self, pid: int, leaf: cgroup.Leaf) -> "tuple[int, float, int]":
        """Take the exit status of the dead init, and the CPU seconds and peak in bytes."""
        _, status, usage = os.wait4(pid, 0)
        if self._supervisor:  # it holds the container's mounts
            os.kill(self._supervisor, c.SIGKILL)
            os.waitpid(self._supervisor, 0)
        leaf.kill()
        return status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024

    def _let_go_of_stdio(self) -> None:
        """The container alone holds its pipes: their readers wait for its end, not for ours."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)

    def _watch(self, pid: int, pidfd: int, said: int, caller: int) -> None:
        """Return when the init is dead, having killed it if the caller went away.

        said: what it says before it is the command; -1 where it has said all.
        """
        listening = said >= 0
        poller = select.poll()
        for fd in (pidfd, said, self.orders, caller):
            if fd >= 0:
                poller.register(fd, select.POLLIN)
        while True:
            rest = None if listening or caller < 0 else self.rest
            ready = {fd for fd, _ in poller.poll(dormant.IDLE_S * 1000 if rest else None)}
            if not ready and rest:
                rest(pid, pidfd)
                self.rest = None  # it could not
            if said in ready and not self._listen(said, pid):
                poller.unregister(said)
                listening = False
            if pidfd in ready:
                while listening:
                    listening = self._listen(said, pid)
                return
            if caller in ready or (self.orders in ready and not self._forward(pidfd)):
                pidfd_send_signal(pidfd, c.SIGKILL)
                poller.unregister(caller)
                poller.unregister(self.orders)
                caller = self.orders = -1

    def _become_dormant(
        self, pid: int, pidfd: int, root: int, caller: int, leaf: cgroup.Leaf
    ) -> None:
        """Wait for what `_watch` waits for, and go on in `resume`."""
        dormant.become(
            "/proc/self/exe",  # of the read-only mount
            "runtime.launch.parent",
            (self.orders, self.report, self.stubs, pid, pidfd, root, caller, leaf.state()),
            awaited=(self.orders, pidfd, caller),
            # All are needed: what nobody needs was closed. Locks are held by them.
            kept=[fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_open(fd)],
        )

    def _listen(self, said: int, pid: int) -> bool:
        """Take one message of the init; False when it has said all."""
        try:
            message = receive(said)
        except EOFError:
            message = None  # killed in the middle of a word
        if message is None:
            if self.failure is None:
                self._tell_started(pid)
            return False
        if message[0] == "stub":
            self.stubs.append(message[1])  # type: ignore[arg-type]
        elif message[0] == "seccomp" and self._supervise:
            self._supervisor = self._supervise(message)
            self.rest = None
        else:
            self.failure = message
        return True

    def _tell_started(self, pid: int) -> None:
        with tolerate(BrokenPipeError):  # the caller is gone; the watch finds out
            send(self.report, ("started", pid))

    def _forward(self, pidfd: int) -> bool:
        """Pass one signal on; False when the caller closed the pipe."""
        data = os.read(self.orders, 1)
        if not data:
            return False
        with tolerate(ProcessLookupError):  # it has just ended
            pidfd_send_signal(pidfd, data[0])
        return True


def _guard_devices_by_mount(plan: "LaunchPlan") -> None:
    """Without device rules in a cgroup, let no device work but those that we make in /dev."""
    plan["root"]["no_devices"] = True
    for name in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        plan["capabilities"][name] &= ~(1 << NUMBERS["CAP_MKNOD"])


def _start_supervisor(
    plan: "LaunchPlan", message: "tuple[object, ...]", pidfd: int, go: int
) -> int:
    """Have the calls answered that the container's filter makes wait; return who does it."""
    from runtime.emulated.supervisor import start

    pid = start(plan, message, pidfd)
    with tolerate(BrokenPipeError):  # the init was killed meanwhile
        os.write(go, b"s")
    return pid


def _is_open(fd: int) -> bool:
    try:
        os.get_inheritable(fd)
    except OSError:  # the one that the others were listed with
        return False
    return True


def resume(state: "tuple[Any, ...]", _signals: "list[int]") -> None:
    """Go on with a container, from where the launcher became dormant."""
    orders, report, stubs, pid, pidfd, root, caller, limits = state
    prctl(c.PR_SET_DUMPABLE, 0)
    launch = Launch(orders, report)
    launch.stubs = stubs

    def work() -> None:
        leaf = cgroup.Leaf.resumed(limits)
        try:
            launch.rest = lambda pid, fd: launch._become_dormant(pid, fd, root, caller, leaf)
            launch._watch(pid, pidfd, -1, caller)
            status = launch.bury(pid, leaf)
            usage = launch.tidy(root, leaf)
        finally:
            leaf.__exit__()
        launch.finish(status, usage)

    _be_the_process(work, report)


def main(orders: int, report: int) -> None:
    """Entry point of the launcher process."""
    _be_the_process(Launch(orders, report).run, report)


def _be_the_process(work: "Callable[[], None]", report: int) -> None:
    code = 0
    try:
        work()
    except BaseException as error:
        code = 1
        subject = getattr(error, "filename", None)
        text = f"{type(error).__name__}: {error}" + (f" ({subject})" if subject else "")
        with tolerate(OSError):  # the caller is gone
            send(report, ("failed", "launch", text, getattr(error, "errno", None) or 0))
    # Without the interpreter's own farewell: it takes as long as the container's.
    os._exit(code)
