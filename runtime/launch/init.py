"""The container's first process, from its clone to the execve of the command.

From `forget_imports` on nothing may be imported: after the switch of the root a late import would
run the image's own module as root. Every step reports its failure over the report pipe.
"""

import os
import select
import sys

from runtime import jsontext
from runtime.launch import command, credentials
from runtime.launch.channel import send, send_descriptor, send_failure
from runtime.launch.filesystem import Filesystem
from runtime.launch.hooks import HookFailed, run_hooks
from runtime.launch.loopback import loopback_up
from runtime.launch.process import (
    Failed,
    account_of,
    enter_if_allowed,
    enter_working_directory,
    make_working_directory,
    own_proc_files,
    own_scheduling,
    own_stdio,
    prepare_exec,
    take_terminal,
    write_below,
)
from runtime.launch.rootswitch import switch_root
from runtime.launch.stubs import Stub
from runtime.launch.terminal import open_terminal
from runtime.linux import constants as c
from runtime.linux import mount as m
from runtime.linux.libc import libc
from runtime.linux.namespaces import setdomainname, sethostname, setns, unshare
from runtime.linux.process import (
    personality,
    prctl,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.plan import LaunchPlan


class _Made(list[Stub]):
    """Tells the launcher of each mount point made, at once: we may be killed before the last."""

    def __init__(self, report: int) -> None:
        super().__init__()
        self._report = report

    def append(self, stub: Stub) -> None:
        send(self._report, ("stub", stub))


def forget_imports() -> None:
    """Make any further import fail, and tracebacks print nothing that needs one."""
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.meta_path.clear()
    sys.excepthook = lambda kind, value, trace: None
    sys.unraisablehook = lambda unraisable: None


def run(
    plan: "LaunchPlan", root: int, go: int, report: int, enter_cgroups: "Callable[[], None]"
) -> None:
    """Become the container's command; never returns.

    root: the detached root file system. go: a byte arrives when the launcher is done with us, its
    end means that the launcher is gone. report: messages go there; closed by a good execve.
    enter_cgroups: of the leaves into which nobody was cloned.
    """
    forget_imports()
    try:
        prctl(c.PR_SET_PDEATHSIG, c.SIGKILL)
        _into(enter_cgroups)
        _run(plan, root, go, report)
    except Failed as failure:
        send_failure(report, *failure.args)
    except OSError as error:
        subject = f" {error.filename}" if error.filename else ""
        send_failure(report, "launch", f"{error.strerror}{subject}", error.errno or 0)
    except BaseException as error:
        send_failure(report, "launch", f"{type(error).__name__}: {error}")
    finally:  # whatever happens: who cloned us has not this process's errands to run
        os._exit(1)


def _run(plan: "LaunchPlan", root: int, go: int, report: int) -> None:
    _await(go, b"g")
    os.setsid()
    if plan["chroot"]:
        os.fchdir(root)
        os.chroot(".")
        os.chdir("/")
        _become_the_command(plan, go, report)
    for path, kind in plan["join"]:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        setns(namespace, kind)
        os.close(namespace)
    if plan["bind_devices"]:  # a user namespace: who we are there has just been decided
        _become_its_root()
    unshare(plan["late_namespaces"])
    if plan["new_keyring"]:
        _new_keyring()
    made = _Made(report)
    try:
        console = _root_file_system(plan, root, made, (go, report))
    except OSError as error:
        subject = f" on {error.filename}" if error.filename else ""
        raise Failed("mount", f"mount{subject}: {error.strerror}", error.errno or 0) from error
    _host_names(plan)
    if console >= 0:
        take_terminal(console)
    _become_the_command(plan, go, report)


def _into(enter_cgroups: "Callable[[], None]") -> None:
    try:
        enter_cgroups()
    except OSError as error:
        raise Failed("cgroup", f"cgroup: {error.strerror}", error.errno or 0) from error


def _await(go: int, word: bytes) -> None:
    """Wait until the launcher says `word`; end where it is gone."""
    if os.read(go, 1) != word:
        os._exit(125)


def _become_its_root() -> None:
    if _may_set_groups():
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _may_set_groups() -> bool:
    # As bytes: a codec that nobody used yet would have to be imported.
    with open("/proc/self/setgroups", "rb", buffering=0) as file:
        return file.read().strip() == b"allow"


def _new_keyring() -> None:
    """Leave the caller's session keyring, whose keys the container would possess."""
    number = {"x86_64": 250, "i686": 288, "s390x": 280, "ppc64le": 271}.get(os.uname().machine, 219)
    libc.syscall(number, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING; refused in some sandboxes


def _root_file_system(
    plan: "LaunchPlan", root: int, made: "list[Stub]", pipes: "tuple[int, int]"
) -> int:
    """Build the root, switch to it, return the terminal's slave (-1 without one)."""
    if plan["namespaces"] & c.CLONE_NEWNS or plan["late_namespaces"] & c.CLONE_NEWNS:
        # Nothing that is mounted from here on may travel back to the host.
        m.mount("", "/", None, c.MS_REC | c.MS_PRIVATE, None)
    os.umask(0)
    root, scratch = _attached(plan, root)
    filesystem = Filesystem(root, scratch, made)
    for entry in plan["mounts"]:
        if entry["kind"] == "cgroup":
            filesystem.cgroups(entry["target"], entry["attributes"], plan["cgroup_view"])
        else:
            filesystem.mount(entry)
    if plan["device_trees"]:
        filesystem.show_devices(plan["devices"], plan["device_trees"])
    else:
        filesystem.devices(plan["devices"])
    if plan["links"]:
        filesystem.links(plan["links"])
    console = _terminal(plan, filesystem) if plan["tty"] else -1
    _hooks_before_the_switch(plan, pipes)
    filesystem.finish()
    filesystem.mask(plan["masked"])
    filesystem.make_read_only(plan["read_only_paths"])
    switch_root(plan, root)
    if plan["detached"] and not os.path.lexists(plan["cwd"]):  # while it can be written to
        make_working_directory(plan["cwd"], (0, 0))
    _finish_root(plan, root)
    # A working directory by the number of a descriptor finds none of ours.
    os.close(scratch)
    os.close(root)
    os.umask(0o022)
    return console


def _attached(plan: "LaunchPlan", root: int) -> "tuple[int, int]":
    """Mount a private tmpfs, over it the detached `root`; return descriptors of root and tmpfs.

    Hooks that enter the mount namespace find the root where the bundle has it.
    """
    anchor = os.open(plan["anchor"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    options: list[tuple[str, str | None]] = [("mode", "700")]
    scratch = m.make_detached("tmpfs", "tmpfs", options, 0)
    m.move_mount(scratch, anchor, plan["anchor"])
    m.move_mount(root, scratch, plan["anchor"])
    os.fchdir(root)
    for fd in (anchor, root):
        os.close(fd)
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), scratch


def _finish_root(plan: "LaunchPlan", root: int) -> None:
    wanted = plan["root_propagation"]
    if wanted:
        m.mount_setattr(root, 0, 0, wanted & ~c.MS_REC, bool(wanted & c.MS_REC))
    attributes = c.MOUNT_ATTR_RDONLY if plan["root"]["read_only"] else 0
    if plan["root"]["no_devices"]:
        attributes |= c.MOUNT_ATTR_NODEV
    if attributes:
        m.mount_setattr(root, attributes)


def _hooks_before_the_switch(plan: "LaunchPlan", pipes: "tuple[int, int]") -> None:
    """Let the launcher run its hooks, then run those that see the container's namespaces."""
    hooks, (go, report) = plan["hooks"], pipes
    if hooks.get("prestart") or hooks.get("createRuntime"):
        send(report, ("mounted",))
        _await(go, b"h")
    _run_hooks(plan, "createContainer", "creating")


def _run_hooks(
    plan: "LaunchPlan", moment: str, status: str, env: "dict[bytes, bytes] | None" = None
) -> None:
    """Run hooks; `env` is the command's where they run in its place: they get its filter too."""
    hooks = plan["hooks"].get(moment)
    if hooks:
        state = {**plan["state"], "status": status, "pid": os.getpid()}
        own = None
        if env is not None and not plan["seccomp_load"]["listener"]:
            own = credentials.last_filter
        try:
            run_hooks(moment, hooks, jsontext.dumps(state), env, own and (lambda: own(plan)))
        except HookFailed as error:
            raise Failed("hook", str(error)) from error


def _terminal(plan: "LaunchPlan", filesystem: Filesystem) -> int:
    """Open a terminal in the container's own devpts, hand its master to the caller."""
    slave, master = open_terminal(filesystem.root, plan["window"])
    filesystem.show_terminal(slave)
    send_descriptor(plan["tty_socket"], master)
    os.close(master)
    return slave


def _sysctl_path(key: str) -> str:
    """Return the path of a sysctl; in a key with slashes the dots are part of the names."""
    slash, dot = key.find("/"), key.find(".")
    if slash < 0 or 0 <= dot < slash:
        return key.translate({ord("."): "/", ord("/"): "."})
    return key


def _host_names(plan: "LaunchPlan") -> None:
    _own_settings(plan)
    try:
        if plan["hostname"]:
            sethostname(plan["hostname"])
        if plan["domainname"]:
            setdomainname(plan["domainname"])
    except PermissionError:
        # The filter of a container around us (podman's) refuses it, and allows namespaces.
        if not plan["shares_processes"]:
            raise
    if plan["loopback_up"]:
        loopback_up()
    if plan["sysctl"] or plan["oom_score_adj"] is not None or any(plan["security_label"]):
        # Through a procfs that the image cannot have mounted anything over.
        proc = m.make_detached("proc", "proc", [], 0)
        for key, value in plan["sysctl"]:
            write_below(proc, "sys/" + _sysctl_path(key), value)
        own_proc_files(plan, proc)
        os.close(proc)


def _own_settings(plan: "LaunchPlan") -> None:
    own_scheduling(plan)
    if plan["personality"] is not None:
        personality(plan["personality"])


def _become_the_command(plan: "LaunchPlan", go: int, report: int) -> None:
    account = account_of(plan)
    credentials.set_limits(plan["limits"], plan["strict"])
    if plan["create_cwd"]:
        owner = account[:2] if plan["own_cwd"] else (0, 0)
        make_working_directory(plan["cwd"], owner, noted=bool(plan["emulating_filter"]))
    entered = enter_if_allowed(plan["cwd"])
    own_stdio(account[0], plan["tty"])
    env = command.environment(plan["env"], account[3], plan["tty"] and not plan["detached"])
    os.umask(plan["umask"])
    if plan["shares_processes"] and not plan["chroot"]:
        from runtime.launch.descendants import keep_signals_inside  # the launcher has it already

        keep_signals_inside()
    credentials.become(plan, account, report, go)
    if not entered:
        enter_working_directory(plan["cwd"])
    if plan["detached"]:
        _outlive_the_launcher(plan, go, report, env)
    else:
        _die_with_the_launcher(go)
    prepare_exec(plan["keep_fds"])
    if not (plan["detached"] and plan["seccomp_load"]["listener"]):
        credentials.last_filter(plan, report, go)
    try:
        if plan["trampoline"] >= 0:
            command.hand_over(plan["trampoline"], plan["args"], env, (3 + plan["keep_fds"], report))
        command.execute(plan["args"], env)
    except command.CommandFailed as failure:
        raise Failed(*failure.args) from failure


def _die_with_the_launcher(go: int) -> None:
    # The change of identity cleared the signal, so set it again, and see whether the launcher
    # died in between: its end of the pipe is closed then.
    prctl(c.PR_SET_PDEATHSIG, c.SIGKILL)
    poller = select.poll()
    poller.register(go, 0)
    if poller.poll(0):
        os._exit(125)


def _outlive_the_launcher(
    plan: "LaunchPlan", go: int, report: int, env: "dict[bytes, bytes]"
) -> None:
    """Say that all is ready; wait until that is written down, and then for the start."""
    try:
        command.find(plan["args"], env)
    except command.CommandFailed as failure:
        raise Failed(*failure.args) from failure
    prctl(c.PR_SET_PDEATHSIG, 0)
    if plan["seccomp_load"]["listener"]:
        # While somebody is there who passes the listener on.
        credentials.last_filter(plan, report, go)
    send(report, ("ready",))
    _await(go, b"c")
    if plan["start"] >= 0 and os.read(plan["start"], 1) != b"s":
        os._exit(125)
    _run_hooks(plan, "startContainer", "created", env)
