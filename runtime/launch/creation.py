"""Makes a container and leaves it: the process that the OCI command line runs as.

Unlike the launcher of builds and runs it does not watch over what it made: it waits until the init
says that everything is ready, has that written down, and lets it go.
"""

import errno
import os

from runtime import jsontext
from runtime.launch import cgroup, command, init
from runtime.launch.channel import receive
from runtime.launch.cloning import clone_init
from runtime.launch.filesystem import close_sources, open_root, open_sources
from runtime.launch.hooks import HookFailed, run_hooks
from runtime.launch.idmap import write_maps
from runtime.launch.listener import pass_listener
from runtime.launch.process import Failed
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux.process import pidfd_send_signal, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.plan import LaunchPlan


class Creation:
    """One container, from its plan until its init waits for the start.

    pid, pidfd: of the init, once it is cloned.
    """

    def __init__(
        self, plan: "LaunchPlan", agent: int = -1, leaf: "cgroup.Leaf | None" = None
    ) -> None:
        """agent: a socket to who answers the filter's notifications, where the plan has one.

        leaf: the container's cgroups, where it is not we who make them.
        """
        self._plan = plan
        self._agent = agent
        self._root = -1
        self._went_through_hooks = False
        self.leaf = leaf or cgroup.Leaf(plan["cgroup"])
        self.pid, self.pidfd = 0, -1
        self._go = self._said = -1

    @property
    def has_terminal(self) -> bool:
        """Whether the command gets a terminal."""
        return self._plan["tty"]

    def open(self) -> None:
        """Open what is to be mounted: the last step that changes nothing. Raises Failed."""
        plan = self._plan
        try:
            where = os.getcwd()
            # A slave of the host's mount is made here, a shared one not before the switch of roots:
            # pivot_root refuses it.
            self._root = open_root(plan["root"], plan["root_propagation"] & (c.MS_SLAVE | c.MS_REC))
            os.chdir(where)
        except OSError as error:
            subject = f" {error.filename}" if error.filename else ""
            raise Failed("mount", f"root.path{subject}: {error.strerror}", _code(error)) from error
        try:
            open_sources(plan)
        except OSError as error:
            text = f"mount source {error.filename}: {error.strerror}"
            raise Failed("mount", text, _code(error)) from error

    def clone(self, in_child: "Callable[[], None]") -> None:
        """Make the cgroups and the init in its namespaces. Raises Failed.

        in_child: called first thing in the init.
        """
        plan = self._plan
        prctl(c.PR_SET_DUMPABLE, 0)
        try:
            self.leaf.__enter__()
            plan["cgroup_view"] = self.leaf.view(plan)
        except OSError as error:
            raise Failed("cgroup", f"cgroup {error.filename}: {error.strerror}") from error
        if not self.leaf.guards_devices and plan["cgroup"]["v1_devices"]:
            raise Failed("cgroup", "linux.resources.devices: neither cgroup v1 nor BPF is there")
        go_read, self._go = os.pipe()
        self._said, said_write = os.pipe()
        try:
            self.pid, self.pidfd = clone_init(plan, self.leaf)
        except OSError as error:
            text = f"linux.namespaces: {error.strerror}".rstrip()
            raise Failed("clone", text, _code(error)) from error
        if self.pid == 0:
            in_child()
            os.close(self._go)
            os.close(self._said)
            init.run(plan, self._root, go_read, said_write, self.leaf.enter)
        os.close(go_read)
        os.close(said_write)
        close_sources(plan)
        os.close(self._root)
        if plan["trampoline"] >= 0:
            os.close(plan["trampoline"])

    def bring_up(self) -> None:
        """Let the init build itself; return when it waits to be let go. Raises Failed."""
        plan = self._plan
        try:
            self.leaf.attach(self.pid)
            if plan["id_map"] is not None and plan["namespaces"] & c.CLONE_NEWUSER:
                write_maps(self.pid, plan["id_map"])
        except OSError as error:
            raise Failed("cgroup", f"{error.filename}: {error.strerror}", _code(error)) from error
        self._join_resctrl()
        self._move_devices()
        self._tell(b"g")
        while True:
            message = self._listen()
            if message is None:
                raise Failed("launch", "the container's init died before it was ready")
            if message[0] == "failed":
                raise Failed(*message[1:])  # type: ignore[arg-type]
            if message[0] == "mounted":
                self._run_hooks()
                self._tell(b"h")
            elif message[0] == "seccomp":
                state = {**plan["state"], "status": "creating", "pid": self.pid}
                process, metadata = (self.pid, self.pidfd), plan["seccomp_load"]["metadata"]
                pass_listener(self._agent, message[1], process, metadata, state)  # type: ignore[arg-type]
                self._tell(b"s")
            elif message[0] == "ready":
                return

    def _join_resctrl(self) -> None:
        if self._plan["rdt"] is None:
            return
        from runtime import resctrl

        try:
            resctrl.join(self._plan["rdt"], self.pid)
        except OSError as error:
            text = f"linux.intelRdt: {error.filename}: {error.strerror}"
            raise Failed("rdt", text, _code(error)) from error

    def _move_devices(self) -> None:
        if not self._plan["net_devices"]:
            return
        from runtime.launch.netdevices import move_devices  # few containers have any

        joined = [path for path, kind in self._plan["join"] if kind == c.CLONE_NEWNET]
        move_devices(self._plan["net_devices"], joined[0] if joined else f"/proc/{self.pid}/ns/net")

    def let_go(self) -> None:
        """Tell the init that its state is written down: from now on it is on its own."""
        self._tell(b"c")
        self.leaf.release()

    def started(self) -> None:
        """Return when the command runs. Raises Failed when it could not be executed."""
        message = self._listen()
        if message is None:
            return
        if isinstance(message[0], int):  # of the trampoline
            refused = command.refusal(self._plan["args"][0], message[0])
            raise Failed(*refused.args)
        raise Failed(*message[1:])  # type: ignore[arg-type]

    def give_up(self) -> None:
        """Take away what was made."""
        if self.pidfd >= 0:
            with tolerate(ProcessLookupError):
                pidfd_send_signal(self.pidfd, c.SIGKILL)
            with tolerate(ChildProcessError):
                os.waitpid(self.pid, 0)
        if self._went_through_hooks:
            with tolerate(HookFailed):  # what failed first is what is told
                run_hooks(
                    "poststop", self._plan["hooks"].get("poststop", []), self._state("stopped")
                )
        self.leaf.kill()
        self.leaf.__exit__()
        if self._plan["rdt"] is not None:
            from runtime import resctrl

            resctrl.remove(self._plan["rdt"]["made"])

    def _tell(self, word: bytes) -> None:
        with tolerate(BrokenPipeError):  # it is dead; what it said tells why
            os.write(self._go, word)

    def _listen(self) -> "tuple[object, ...] | None":
        while True:
            try:
                message = receive(self._said)
            except EOFError:
                return None  # killed in the middle of a word
            if message is None or message[0] != "stub":  # mount points stay, as other runtimes' do
                return message

    def _state(self, status: str) -> bytes:
        pid = self.pid if status != "stopped" else 0
        return jsontext.dumps({**self._plan["state"], "status": status, "pid": pid})

    def _run_hooks(self) -> None:
        self._went_through_hooks = True
        for moment in ("prestart", "createRuntime"):
            try:
                run_hooks(moment, self._plan["hooks"].get(moment, []), self._state("creating"))
            except HookFailed as error:
                raise Failed("hook", str(error)) from error


def _code(error: OSError) -> int:
    return error.errno or errno.EIO
