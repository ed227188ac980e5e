"""The container's first process, from its clone to the execve of the command.

From `forget_imports` on nothing may be imported: after the switch of the root a late import would
run the image's own module as root. Every step reports its failure over the report pipe.
"""

import fcntl
import os
import select
import stat
import struct
import sys

from runtime.launch import accounts, command, credentials
from runtime.launch.channel import send, send_descriptor
from runtime.launch.filesystem import Filesystem, open_sources
from runtime.launch.stubs import Stub
from runtime.linux import constants as c
from runtime.linux import mount as m
from runtime.linux.libc import libc, oserror
from runtime.linux.namespaces import setdomainname, sethostname, setns, unshare
from runtime.linux.process import close_range, default_action, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import LaunchPlan


class Failed(Exception):
    """A step that went wrong: what kind of failure, and one line that says it."""

    def __init__(self, kind: str, text: str, code: int = 0) -> None:
        super().__init__(kind, text, code)


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


def run(plan: "LaunchPlan", root: int, go: int, report: int) -> None:
    """Become the container's command; never returns.

    root: the detached root file system. go: a byte arrives when the launcher is done with us, its
    end means that the launcher is gone. report: messages go there; closed by a good execve.
    """
    forget_imports()
    try:
        _run(plan, root, go, report)
    except Failed as failure:
        send(report, ("failed", *failure.args))
    except OSError as error:
        subject = f" {error.filename}" if error.filename else ""
        send(report, ("failed", "launch", f"{error.strerror}{subject}", error.errno or 0))
    except BaseException as error:
        send(report, ("failed", "launch", f"{type(error).__name__}: {error}", 0))
    os._exit(125)


def _run(plan: "LaunchPlan", root: int, go: int, report: int) -> None:
    prctl(c.PR_SET_PDEATHSIG, c.SIGKILL)
    if os.read(go, 1) != b"g":
        os._exit(125)
    os.setsid()
    for path, kind in plan["join"]:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        setns(namespace, kind)
        os.close(namespace)
    unshare(plan["late_namespaces"])
    _new_keyring()
    made = _Made(report)
    try:
        console = _root_file_system(plan, root, made)
    except OSError as error:
        subject = f" on {error.filename}" if error.filename else ""
        raise Failed("mount", f"mount{subject}: {error.strerror}", error.errno or 0) from error
    _host_names(plan)
    if console >= 0:
        _take_terminal(console)
    _become_the_command(plan, go)


def _new_keyring() -> None:
    """Leave the caller's session keyring, whose keys the container would possess."""
    number = {"x86_64": 250, "i686": 288, "s390x": 280, "ppc64le": 271}.get(os.uname().machine, 219)
    libc.syscall(number, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING; refused in some sandboxes


def _root_file_system(plan: "LaunchPlan", root: int, made: "list[Stub]") -> int:
    """Build the root, switch to it, return the terminal's slave (-1 without one)."""
    # Nothing that is mounted from here on may travel back to the host.
    m.mount("", "/", None, c.MS_REC | c.MS_PRIVATE, None)
    open_sources(plan["mounts"])
    os.umask(0)
    anchor = os.open(plan["anchor"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    options: list[tuple[str, str | None]] = [("mode", "700")]
    scratch = m.make_detached("tmpfs", "tmpfs", options, 0)
    m.move_mount(scratch, anchor, plan["anchor"])
    os.mkdir("root", dir_fd=scratch)
    target = os.open("root", os.O_PATH | os.O_CLOEXEC, dir_fd=scratch)
    m.move_mount(root, target, "/")
    os.fchdir(root)
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    filesystem = Filesystem(root, scratch, made)
    for entry in plan["mounts"]:
        if entry["kind"] == "cgroup":
            filesystem.cgroups(entry["target"], entry["attributes"], plan["cgroup_view"])
        else:
            filesystem.mount(entry)
    filesystem.devices(plan["devices"], plan["links"])
    console = _terminal(plan, filesystem) if plan["tty"] else -1
    filesystem.mask(plan["masked"])
    filesystem.make_read_only(plan["read_only_paths"])
    _pivot(root)
    attributes = c.MOUNT_ATTR_RDONLY if plan["root"]["read_only"] else 0
    if plan["root"]["no_devices"]:
        attributes |= c.MOUNT_ATTR_NODEV
    if attributes:
        m.mount_setattr(root, attributes)
    os.umask(0o022)
    return console


def _pivot(root: int) -> None:
    """Make `root` the root directory and let go of the host's whole tree."""
    os.fchdir(root)
    # pivot_root(".", ".") stacks the old root on top of the new one; see pivot_root(2), Notes.
    m.pivot_root(".", ".")
    m.umount2(".", c.MNT_DETACH)
    os.chdir("/")


def _terminal(plan: "LaunchPlan", filesystem: Filesystem) -> int:
    """Open a terminal in the container's own devpts, hand its master to the caller."""
    from_root = m.openat2(
        filesystem.root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, 0, c.RESOLVE_IN_ROOT
    )
    fcntl.ioctl(from_root, c.TIOCSPTLCK, struct.pack("i", 0))
    rows, columns = plan["window"]
    if rows and columns:
        fcntl.ioctl(from_root, c.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    # By the master itself, never by a path: the image cannot put another device in its place.
    slave = fcntl.ioctl(from_root, c.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    dev = m.openat2(filesystem.root, "dev", os.O_RDONLY | os.O_DIRECTORY, 0, c.RESOLVE_IN_ROOT)
    os.close(os.open("console", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o620, dir_fd=dev))
    target = os.open("console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
    tree = m.open_tree(slave, "", c.OPEN_TREE_CLONE | c.AT_EMPTY_PATH)
    m.move_mount(tree, target, "/dev/console")
    send_descriptor(plan["tty_socket"], from_root)
    os.close(from_root)
    return slave


def _host_names(plan: "LaunchPlan") -> None:
    if plan["hostname"]:
        sethostname(plan["hostname"])
    if plan["domainname"]:
        setdomainname(plan["domainname"])
    if plan["loopback_up"]:
        _loopback_up()
    if plan["sysctl"] or plan["oom_score_adj"] is not None:
        # Through a procfs that the image cannot have mounted anything over.
        proc = m.make_detached("proc", "proc", [], 0)
        for key, value in plan["sysctl"]:
            _write(proc, "sys/" + key.replace(".", "/"), value)
        if plan["oom_score_adj"] is not None:
            _write(proc, "self/oom_score_adj", str(plan["oom_score_adj"]))
        os.close(proc)


def _write(directory: int, path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    os.write(fd, value.encode())
    os.close(fd)


def _loopback_up() -> None:
    """Set the network namespace's lo up; the kernel then gives it 127.0.0.1 and ::1."""
    af_inet, sock_dgram = 2, 2
    fd = libc.socket(af_inet, sock_dgram | os.O_CLOEXEC, 0)
    if fd < 0:
        raise oserror("socket", "lo")
    request = fcntl.ioctl(fd, c.SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
    flags = struct.unpack_from("16sh", request)[1]
    fcntl.ioctl(fd, c.SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | c.IFF_UP))
    os.close(fd)


def _take_terminal(console: int) -> None:
    fcntl.ioctl(console, c.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(console, fd)
    os.close(console)


def _own_stdio(uid: int, tty: bool) -> None:
    """Let the user reopen /dev/stdout: pipes and the container's terminal become the user's."""
    for fd in (0, 1, 2):
        try:
            status = os.fstat(fd)
            if status.st_uid != uid and (tty or stat.S_ISFIFO(status.st_mode)):
                os.fchown(fd, uid, -1)
        except OSError:
            pass  # closed, or somebody else's


def _enter_working_directory(path: str, create: bool) -> None:
    if create:
        try:
            os.makedirs(path, 0o755, exist_ok=True)
        except OSError as error:
            text = f"working directory {path}: {error.strerror}"
            raise Failed("workdir", text, error.errno or 0) from error
    try:
        os.chdir(path)
        inside = os.getcwd().startswith("/")
    except OSError as error:
        text = f"working directory {path}: {str(error.strerror).lower()}"
        raise Failed("workdir", text, error.errno or 0) from error
    # A directory reached through a leaked descriptor shows as "(unreachable)..." (CVE-2024-21626).
    if not inside:
        raise Failed("workdir", f"working directory {path}: outside of the container")


def _account(plan: "LaunchPlan") -> accounts.Account:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return accounts.look_up(root, plan["user"], plan["additional_groups"])
    except accounts.UnknownAccount as error:
        raise Failed("user", str(error)) from error
    finally:
        os.close(root)


def _become_the_command(plan: "LaunchPlan", go: int) -> None:
    account = _account(plan)
    credentials.set_limits(plan["limits"])
    _enter_working_directory(plan["cwd"], plan["create_cwd"])
    _own_stdio(account[0], plan["tty"])
    env = command.environment(plan["env"], account[3], plan["tty"])
    os.umask(plan["umask"])
    credentials.become(plan, account)
    # The change of identity cleared the signal, so set it again, and see whether the launcher
    # died in between: its end of the pipe is closed then.
    prctl(c.PR_SET_PDEATHSIG, c.SIGKILL)
    poller = select.poll()
    poller.register(go, 0)
    if poller.poll(0):
        os._exit(125)
    # Python ignores two signals, glibc's posix_spawn its internal two; an ignored signal would
    # stay ignored in the command.
    for number in (c.SIGPIPE, c.SIGXFSZ, 32, 33):
        default_action(number)
    close_range(3, flags=c.CLOSE_RANGE_CLOEXEC)
    credentials.last_filter(plan)
    try:
        command.execute(plan["args"], env)
    except command.CommandFailed as failure:
        raise Failed(*failure.args) from failure
