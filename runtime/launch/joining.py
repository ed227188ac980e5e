"""Starts another process in a container that runs: into its cgroups, its namespaces, its root.

Three processes: ours; one that enters the namespaces, of which the pid namespace counts for its
children only; and its sibling-to-be, the command. From the entry into the mount namespace on,
nothing is imported, and the interpreter is one that nothing in the container can write to.
"""

import errno
import os
import struct

from runtime.launch import command, credentials
from runtime.launch.cgroupfiles import go_through, open_doors
from runtime.launch.channel import receive, send, send_descriptor
from runtime.launch.init import forget_imports
from runtime.launch.listener import pass_listener
from runtime.launch.process import (
    Failed,
    account_of,
    enter_if_allowed,
    enter_working_directory,
    own_proc_files,
    own_scheduling,
    own_stdio,
    prepare_exec,
    take_terminal,
)
from runtime.launch.terminal import open_terminal
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux import mount as m
from runtime.linux.namespaces import clone3, setns
from runtime.linux.process import pidfd_open, pidfd_send_signal, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.plan import ProcessPlan

_NAMESPACES = (
    ("user", c.CLONE_NEWUSER),
    ("mnt", c.CLONE_NEWNS),
    ("pid", c.CLONE_NEWPID),
    ("net", c.CLONE_NEWNET),
    ("ipc", c.CLONE_NEWIPC),
    ("uts", c.CLONE_NEWUTS),
    ("cgroup", c.CLONE_NEWCGROUP),
    ("time", c.CLONE_NEWTIME),
)
_PID = struct.Struct("<i")


class Joining:
    """One process that enters a container.

    pid, pidfd: of it, once it is there. agent: a socket to who answers the notifications of its
    filter; state: of the container, which the agent is told.
    """

    def __init__(self, plan: "ProcessPlan", init: int, cgroups: "dict[str, str]") -> None:
        """init: a pidfd of the container's first process. cgroups: controller → folder."""
        self.agent = -1
        self.state: dict[str, Any] = {}
        self._plan = plan
        self._init = init
        self._cgroups = cgroups
        self._doors: list[int] = []
        self._go = self._said = -1
        self.pid, self.pidfd = 0, -1

    def start(self, init_pid: int) -> None:
        """Return when the command is being executed. Raises Failed, when nothing is left of it."""
        prctl(c.PR_SET_DUMPABLE, 0)
        if self._plan["affinity"][0]:
            os.sched_setaffinity(0, self._plan["affinity"][0])
        kinds = _differing(init_pid)
        go_read, self._go = os.pipe()
        self._said, said_write = os.pipe()
        self._clone(kinds, go_read, said_write)
        os.close(go_read)
        os.close(said_write)
        try:
            self._attach()
            os.write(self._go, b"g")
            message = receive(self._said)
            if message is not None and message[0] == "seccomp":
                self._pass_on(message)
                os.write(self._go, b"s")
                message = receive(self._said)
        except (OSError, EOFError) as error:
            self._give_up()
            raise Failed("cgroup", f"join the container: {error}") from error
        if message is not None:
            self._give_up()
            raise Failed(*message[1:])  # type: ignore[arg-type]

    def _pass_on(self, message: "tuple[object, ...]") -> None:
        """Give the listener of our filter to who answers its notifications."""
        if self._plan["emulating_filter"]:
            from runtime.emulated.supervisor import start

            start(self._plan, message, self.pidfd, stays=True)
        else:
            process, metadata = (self.pid, self.pidfd), self._plan["seccomp_load"]["metadata"]
            pass_listener(self.agent, message[1], process, metadata, self.state)  # type: ignore[arg-type]

    def _clone(self, kinds: int, go: int, report: int) -> None:
        pid_read, pid_write = os.pipe()
        cgroup = self._cgroup_fd()
        v1 = (path for name, path in self._cgroups.items() if name != "unified")
        self._doors = open_doors(v1)
        helper = os.fork()
        if helper == 0:
            self._enter(kinds, cgroup, go, report, pid_write)
        for fd in (pid_write, *self._doors, *([cgroup] if cgroup >= 0 else [])):
            os.close(fd)
        answer = os.read(pid_read, _PID.size)
        os.close(pid_read)
        os.waitpid(helper, 0)
        if len(answer) < _PID.size:
            message = receive(self._said)
            failure = message or ("", "launch", "the process that joins died")
            raise Failed(*failure[1:])  # type: ignore[arg-type]
        (self.pid,) = _PID.unpack(answer)
        self.pidfd = pidfd_open(self.pid)

    def _cgroup_fd(self) -> int:
        if "unified" not in self._cgroups:
            return -1
        return os.open(self._cgroups["unified"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _enter(self, kinds: int, cgroup: int, go: int, report: int, pid_write: int) -> None:
        """Enter the namespaces and clone the command; never returns."""
        try:
            os.close(self._go)
            os.close(self._said)
            forget_imports()
            if kinds:
                setns(self._init, kinds)
            pid = _clone_sibling(cgroup)
            if pid == 0:
                self._become(go, report)
            os.write(pid_write, _PID.pack(pid))
        except OSError as error:
            text = f"enter namespaces: {error.strerror}"
            send(report, ("failed", "launch", text, error.errno or 0))
        finally:
            os._exit(0)

    def _become(self, go: int, report: int) -> None:
        """Become the command; never returns."""
        try:
            prctl(c.PR_SET_PDEATHSIG, c.SIGKILL)
            go_through(self._doors)
            if os.read(go, 1) != b"g":
                os._exit(125)
            self._set_up(report, go)
        except Failed as failure:
            send(report, ("failed", *failure.args))
        except command.CommandFailed as failure:
            send(report, ("failed", *failure.args))
        except BaseException as error:
            text = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            send(report, ("failed", "launch", text, getattr(error, "errno", None) or 0))
        finally:
            os._exit(125)

    def _set_up(self, report: int, go: int) -> None:
        plan = self._plan
        os.setsid()
        with tolerate(OSError):  # the container may forbid it, and who joins stays as he is
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        if plan["affinity"][1]:
            os.sched_setaffinity(0, plan["affinity"][1])
        own_scheduling(plan)
        if plan["oom_score_adj"] is not None or any(plan["security_label"]):
            proc = m.make_detached("proc", "proc", [], 0)
            own_proc_files(plan, proc)
            os.close(proc)
        if plan["tty"]:
            root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            slave, master = open_terminal(root, plan["window"])
            send_descriptor(plan["tty_socket"], master)
            os.close(master)
            os.close(root)
            take_terminal(slave)
        account = account_of(plan)
        credentials.set_limits(plan["limits"], plan["strict"])
        own_stdio(account[0], plan["tty"])
        env = command.environment(plan["env"], account[3], False)
        os.umask(plan["umask"])
        entered = enter_if_allowed(plan["cwd"])
        credentials.become(plan, account, report, go)
        if not entered:
            enter_working_directory(plan["cwd"])
        prctl(c.PR_SET_PDEATHSIG, 0)
        prepare_exec(plan["keep_fds"])
        credentials.last_filter(plan, report, go)
        command.execute(plan["args"], env)

    def _attach(self) -> None:
        if "unified" not in self._cgroups or not self._to_attach_v2():
            return
        path = self._cgroups["unified"]
        fd = os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(self.pid).encode())
        finally:
            os.close(fd)

    def _to_attach_v2(self) -> bool:
        with open(f"/proc/{self.pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            own = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
        return not self._cgroups["unified"].endswith(own)

    def _give_up(self) -> None:
        with tolerate(ProcessLookupError):
            pidfd_send_signal(self.pidfd, c.SIGKILL)
        os.waitpid(self.pid, 0)


def _differing(init_pid: int) -> int:
    """Return the flags of the namespaces that the container has and we do not."""
    kinds = 0
    for name, kind in _NAMESPACES:
        try:
            theirs = os.stat(f"/proc/{init_pid}/ns/{name}")
            ours = os.stat(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            continue  # an older kernel
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            kinds |= kind
    return kinds


def _clone_sibling(cgroup: int) -> int:
    """Fork a child that is our parent's; return its number there, 0 in it."""
    if cgroup >= 0:
        try:
            return clone3(c.CLONE_PARENT, 0, cgroup)[0]
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EOPNOTSUPP, errno.EACCES, errno.ENODEV):
                raise
    return clone3(c.CLONE_PARENT, 0)[0]
