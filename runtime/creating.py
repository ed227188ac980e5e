"""Creates a container and starts it, in the runtime-spec's order.

What is made is written into state.json before it is made, so that `delete --force` finds all of it
whenever this process is killed.
"""

import os

from runtime import freezer, jsontext
from runtime.cgrouptree import members
from runtime.container import CONFIG, START, Container, now, start_time
from runtime.errors import InvalidSpec, LaunchFailed, RuntimeFailure, WrongState
from runtime.launch import trampoline
from runtime.launch.cgroupfiles import planned_paths
from runtime.launch.channel import send_descriptor
from runtime.launch.creation import Creation
from runtime.launch.hooks import HookFailed, run_hooks
from runtime.launch.process import Failed
from runtime.linux import constants as c
from runtime.preparation import container_plan, load_config

TYPE_CHECKING = False
AGENT = "linux.seccomp.listenerPath: failed to connect with seccomp agent"

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from runtime.plan import LaunchPlan
    from runtime.systemd.scope import Scope

    Warn = Callable[[str], None]


class Wish:
    """What create and run are asked for; each field is one of runc's options.

    bundle: absolute. waits: the command is started by another call. own_terminal: a socket that
    takes the terminal instead of `console_socket`. cache: folder of compiled filters.
    keep_fds: so many descriptors from 3 on are the command's; listen_fds: how many of them systemd
    passed.
    pidfd_socket: a socket that takes a pidfd of the init. notify: pass systemd's notifications on.
    seal: starts over in an interpreter that a container cannot overwrite, where ours is none.
    """

    def __init__(self, root: str, container_id: str, bundle: str, cache: str) -> None:
        self.root = root
        self.id = container_id
        self.bundle = bundle
        self.cache = cache
        self.console_socket = ""
        self.own_terminal = -1
        self.pid_file = ""
        self.pidfd_socket = ""
        self.notify = False
        self.keep_fds = 0
        self.listen_fds = 0
        self.no_pivot = False
        self.no_new_keyring = False
        self.systemd_cgroup = False
        self.waits = True
        self.seal: Callable[[], None] | None = None


def create(wish: Wish, warn: "Warn") -> "tuple[Container, Creation]":
    """Make the container that `wish` asks for, up to where the caller says `creation.let_go()`.

    Raises RuntimeFailure, when nothing of it is left.
    """
    spec, data, left_out = load_config(wish.bundle)
    cgroups_path = (spec.get("linux") or {}).get("cgroupsPath") or ""
    plan = container_plan(spec, wish.bundle, wish.id, wish.cache)
    _apply(wish, plan)
    if wish.seal is not None:
        plan["trampoline"] = _trampoline(plan, spec, wish.seal)
    for text in left_out:
        warn(text)
    agent = connect(plan["seccomp_load"]["listener"], AGENT)
    container = Container(wish.root, wish.id)
    scope = _scope(wish, plan, spec, cgroups_path)
    creation = Creation(plan, agent, scope)
    try:
        plan["tty_socket"] = _terminal_socket(wish, plan["tty"])
        pidfd_socket = connect(wish.pidfd_socket, "--pidfd-socket")
        creation.open()
        container.make()
    except Failed as failure:
        raise raised(failure) from failure
    try:
        container.record = _record(plan, _free_cgroups(plan), scope)
        _make(container, creation, plan, data, wish)
        pass_pidfd(pidfd_socket, creation.pidfd, b"standard")
    except Failed as failure:
        _undo(container, creation)
        raise raised(failure) from failure
    except BaseException:
        _undo(container, creation)
        raise
    return container, creation


def _trampoline(plan: "LaunchPlan", spec: "dict[str, Any]", seal: "Callable[[], None]") -> int:
    """Return a descriptor of what becomes the command for us; where that will not do, seal."""
    try:
        if trampoline.suffices(plan, spec["linux"].get("seccomp")):
            return trampoline.make(3 + plan["keep_fds"])
    except OSError:
        pass  # this host forbids programs in memory
    seal()
    return -1


def _apply(wish: Wish, plan: "LaunchPlan") -> None:
    plan["no_pivot"] = wish.no_pivot
    plan["new_keyring"] = not wish.no_new_keyring
    plan["keep_fds"] = wish.keep_fds
    if wish.listen_fds:
        plan["env"] += [f"LISTEN_FDS={wish.listen_fds}", "LISTEN_PID=1"]


def _scope(
    wish: Wish, plan: "LaunchPlan", spec: "dict[str, Any]", cgroups_path: str
) -> "Scope | None":
    """Return who has systemd make the cgroups, where that is asked for."""
    if not wish.systemd_cgroup:
        return None
    from runtime.systemd.scope import scope_for

    return scope_for(plan, spec, cgroups_path)


def _terminal_socket(wish: Wish, tty: bool) -> int:
    if wish.console_socket and not tty:
        raise RuntimeFailure("--console-socket needs process.terminal")
    if tty and wish.own_terminal < 0 and not wish.console_socket:
        raise RuntimeFailure("cannot allocate tty if it detaches without --console-socket")
    if wish.own_terminal >= 0:
        return wish.own_terminal
    return connect(wish.console_socket, "--console-socket")


def connect(path: str, what: str) -> int:
    """Return a descriptor connected to the unix socket `path`, -1 for none."""
    if not path:
        return -1
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as error:
        raise RuntimeFailure(f"{what}: connect {path}: {error.strerror}") from error
    return sock.detach()


def pass_pidfd(socket_fd: int, pidfd: int, kind: bytes) -> None:
    """Send a process's pidfd over the socket that --pidfd-socket named; -1 is none."""
    if socket_fd < 0:
        return
    try:
        send_descriptor(socket_fd, pidfd, kind)
    except OSError as error:
        raise RuntimeFailure(f"--pidfd-socket: {error.strerror}") from error
    os.close(socket_fd)


def _record(
    plan: "LaunchPlan", cgroups: "dict[str, str]", scope: "Scope | None"
) -> "dict[str, Any]":
    return {
        **plan["state"],
        "pid": 0,
        "starttime": 0,
        "created": now(),
        "rootfs": plan["root"]["base"],
        "owner": os.geteuid(),
        "cgroups": cgroups,
        **({"scope": scope.record()} if scope else {}),
        **({"resctrl": plan["rdt"]["made"]} if plan["rdt"] else {}),
        "ownpids": bool(plan["namespaces"] & c.CLONE_NEWPID),
        "ready": False,
    }


def _free_cgroups(plan: "LaunchPlan") -> "dict[str, str]":
    """Return where the cgroups will be. Raises InvalidSpec where somebody lives there."""
    cgroups = planned_paths(plan["cgroup"])
    busy = members(cgroups)
    if busy:
        raise InvalidSpec(f"linux.cgroupsPath: the cgroup has processes already: {busy[:8]}")
    if freezer.holds_newcomers(cgroups):
        # Who enters it would stand still before he can say so.
        raise InvalidSpec("linux.cgroupsPath: container's cgroup unexpectedly frozen")
    return cgroups


def _make(
    container: Container, creation: Creation, plan: "LaunchPlan", config: bytes, wish: Wish
) -> None:
    with open(os.path.join(container.folder, CONFIG), "wb") as file:
        file.write(config)
    container.write()
    if wish.notify:
        from runtime import notify

        notify.show(plan, container.folder)
    if wish.waits:
        fifo = os.path.join(container.folder, START)
        os.mkfifo(fifo, 0o622)
        # For reading and writing: a reader alone would see its end before the first writer comes.
        plan["start"] = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
    creation.clone(container.let_go_of_lock)
    container.record["pid"] = creation.pid
    container.record["starttime"] = start_time(creation.pid)[0]
    container.write()
    creation.bring_up()
    container.record["cgroups"] = creation.leaf.paths()
    if wish.waits:
        set_ready(container)
    write_pid_file(wish.pid_file, creation.pid)


def set_ready(container: Container) -> None:
    """Say that the creation has come to its end: others may enter the container."""
    container.record["ready"] = True
    container.write()


def write_pid_file(path: str, pid: int) -> None:
    """Write `pid` into the file `path`, in one step; nothing for an empty path."""
    if not path:
        return
    folder, _, name = path.rpartition("/")
    temporary = os.path.join(folder, f".{name}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(str(pid))
        os.rename(temporary, path)
    except OSError as error:
        raise RuntimeFailure(f"--pid-file {path}: {error.strerror}") from error


def _undo(container: Container, creation: Creation) -> None:
    try:
        creation.give_up()
    finally:
        container.remove_folder()


_KINDS = {"not-found": 127, "not-executable": 126}


def raised(failure: Failed) -> RuntimeFailure:
    """Return the exception for what went wrong in a launch."""
    kind, text = failure.args[:2]
    if kind in _KINDS or kind == "workdir":
        # What docker looks for when it chooses its exit code.
        text = f"unable to start container process: {text}"
    return LaunchFailed(text)


def start(container: Container, warn: "Warn") -> None:
    """Let the command of a created container be executed. Raises WrongState."""
    fifo = os.path.join(container.folder, START)
    if not container.is_alive():
        raise WrongState("cannot start a container that has stopped")
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        # Not there: somebody started it. Nobody reads: it was, and the fifo was left.
        raise WrongState("cannot start an already running container") from error
    try:
        os.write(fd, b"s")
    finally:
        os.close(fd)
    os.unlink(fifo)
    after_start(container, warn)


def after_start(container: Container, warn: "Warn") -> None:
    """Run the poststart hooks; the spec has their failure be a warning."""
    run_own_hooks(container, "poststart", "running", warn)


def run_own_hooks(container: Container, moment: str, status: str, warn: "Warn") -> None:
    """Run hooks of a container that exists, one after the other; failures are warnings."""
    from runtime.planning import hook_plan

    for hook in (container.spec().get("hooks") or {}).get(moment) or []:
        try:
            run_hooks(moment, [hook_plan(hook)], jsontext.dumps(container.state(status)))
        except HookFailed as failure:
            warn(str(failure))
