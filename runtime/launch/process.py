"""What a process of a container does to itself before its execve: the first and any that enters.

Imports nothing when it runs; every step that goes wrong is a Failed.
"""

import errno
import fcntl
import os
import stat

from runtime.launch import accounts
from runtime.linux import constants as c
from runtime.linux.process import (
    close_range,
    default_action,
    ioprio_set,
    sched_setattr,
    set_mempolicy,
)
from store.ownernote import NOTE, to_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import ProcessPlan


class Failed(Exception):
    """A step that went wrong: what kind of failure, and one line that says it."""

    def __init__(self, kind: str, text: str, code: int = 0) -> None:
        super().__init__(kind, text, code)


def account_of(plan: "ProcessPlan") -> accounts.Account:
    """Return who the command runs as, by the account files of the root that we are in."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if plan["user"]:
            return accounts.look_up(root, plan["user"], plan["additional_groups"])
        uid, gid, groups = plan["account"]
        needs_home = not any(entry.startswith("HOME=") for entry in plan["env"])
        return uid, gid, groups, accounts.home_of(root, uid) if needs_home else "/"
    except accounts.UnknownAccount as error:
        raise Failed("user", str(error)) from error
    finally:
        os.close(root)


def enter_if_allowed(path: str) -> bool:
    """Go there as root; False where only the user may. Source: runc, finalizeNamespace."""
    try:
        enter_working_directory(path)
    except Failed as failure:
        if failure.args[2] not in (errno.EACCES, errno.EPERM):
            raise
        return False
    return True


def enter_working_directory(path: str) -> None:
    """Go there, and make sure that it is inside the root."""
    try:
        os.chdir(path)
    except OSError as error:
        text = f"working directory {path}: {str(error.strerror).lower()}"
        raise Failed("workdir", text, error.errno or 0) from error
    # A directory reached through a leaked descriptor shows as "(unreachable)...", which newer C
    # libraries say is none (CVE-2024-21626).
    try:
        inside = os.getcwd().startswith("/")
    except OSError:
        inside = False
    if not inside:
        raise Failed("workdir", f"working directory {path}: outside of the container")


def make_working_directory(path: str, owner: "tuple[int, int]", noted: bool = False) -> None:
    """Make the working directory where it is missing; it and the parents made are `owner`'s.

    noted: who owns them is noted, as the disk cannot say it.
    """
    missing, asked, path = [], path, os.path.realpath(path)
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    try:
        for made in reversed(missing):
            os.mkdir(made, 0o755)
            if not noted:
                os.chown(made, *owner)
            elif owner != (0, 0):
                os.setxattr(made, NOTE, to_note(*owner))
    except OSError as error:
        text = f"working directory {asked}: {str(error.strerror).lower()}"
        raise Failed("workdir", text, error.errno or 0) from error


def own_proc_files(plan: "ProcessPlan", proc: int) -> None:
    """Write what a process says of itself by files of `proc`, a procfs."""
    if plan["oom_score_adj"] is not None:
        write_below(proc, "self/oom_score_adj", str(plan["oom_score_adj"]))
    apparmor, selinux = plan["security_label"]
    if apparmor:
        try:
            write_below(proc, "self/attr/apparmor/exec", f"exec {apparmor}")
        except Failed as failure:
            if failure.args[2] != errno.ENOENT:
                raise
            text = f"process.apparmorProfile: no profile {apparmor} is loaded on this host"
            raise Failed("apparmor", text, errno.ENOENT) from failure
    if selinux:
        write_below(proc, "self/attr/exec", selinux)


def own_scheduling(plan: "ProcessPlan") -> None:
    """Set what the kernel keeps about our turns at CPU and disk."""
    try:
        if plan["scheduler"] is not None:
            sched_setattr(plan["scheduler"])
        if plan["io_priority"] is not None:
            ioprio_set(plan["io_priority"])
    except OSError as error:
        raise Failed("launch", f"process: {error.strerror}", error.errno or 0) from error
    if plan["memory_policy"] is not None:
        try:
            set_mempolicy(*plan["memory_policy"])
        except OSError as error:
            text = f"linux.memoryPolicy: {error.strerror}"
            raise Failed("launch", text, error.errno or 0) from error


def own_stdio(uid: int, tty: bool) -> None:
    """Let the user reopen /dev/stdout: pipes and the container's terminal become the user's."""
    for fd in (0, 1, 2):
        try:
            status = os.fstat(fd)
            if status.st_uid != uid and (tty or stat.S_ISFIFO(status.st_mode)):
                os.fchown(fd, uid, -1)
        except OSError:
            pass  # closed, or somebody else's


def prepare_exec(keep_fds: int = 0) -> None:
    """Leave nothing of ours to the command: no ignored signal, no descriptor.

    keep_fds: so many after stdio are the command's.
    """
    # Python ignores two signals, glibc's posix_spawn its internal two; an ignored signal would
    # stay ignored in the command.
    for number in (c.SIGPIPE, c.SIGXFSZ, 32, 33):
        default_action(number)
    close_range(3 + keep_fds, flags=c.CLOSE_RANGE_CLOEXEC)


def take_terminal(console: int) -> None:
    """Make the terminal ours: the controlling one, and stdio."""
    fcntl.ioctl(console, c.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(console, fd)
    os.close(console)


def write_below(directory: int, path: str, value: str) -> None:
    """Write `value` into the file `path` below a directory. Raises Failed."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise Failed("launch", f"write {path}: {error.strerror}", error.errno or 0) from error
