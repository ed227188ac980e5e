"""Who the command runs as: identity, limits, capabilities, the seccomp filter."""

import errno
import os

from runtime.launch.channel import send
from runtime.launch.process import Failed
from runtime.linux import capabilities as caps
from runtime.linux import constants as c
from runtime.linux.process import prctl, seccomp_set_filter, set_seccomp_filter, setrlimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.launch.accounts import Account
    from runtime.plan import ProcessPlan


def set_limits(limits: "list[tuple[int, int, int]]", strict: bool) -> None:
    """Set resource limits; unless `strict`, what the host does not let us raise stays as it is."""
    for resource, soft, hard in limits:
        try:
            setrlimit(resource, soft, hard)
        except OSError as error:
            # No CAP_SYS_RESOURCE (virtual machines of many providers): docker's limits are
            # a convenience, not a fence.
            if strict or error.errno not in (errno.EPERM, errno.EINVAL):
                text = f"rlimit {resource} to {soft}:{hard}: {os.strerror(error.errno or 0)}"
                raise OSError(error.errno, text) from error


def become(plan: "ProcessPlan", account: "Account", report: int = -1, go: int = -1) -> None:
    """Take the identity and the rights of the command, for good.

    report, go: the launcher's pipes, for a filter that has a listener.
    """
    uid, gid, groups, _ = account
    wanted = plan["capabilities"]
    if plan["no_new_privileges"]:
        prctl(c.PR_SET_NO_NEW_PRIVS, 1)
    emulated = bool(plan["emulating_filter"]) and _emulate(plan, account, report, go)
    if plan["seccomp"] and not plan["no_new_privileges"]:
        # Loading without no_new_privs takes CAP_SYS_ADMIN, which is dropped below.
        _load_filter(plan, report, go)
    available = caps.limit_bounding(wanted["bounding"])
    prctl(c.PR_SET_KEEPCAPS, 1)
    try:
        if not emulated:
            _take_ids(uid, gid, groups, plan["strict"])
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        text = f"user {uid}:{gid}: this user namespace does not have all of its ids"
        raise Failed("no-id", text, errno.EINVAL) from error
    prctl(c.PR_SET_KEEPCAPS, 0)
    caps.capset(
        wanted["effective"] & available,
        wanted["permitted"] & available,
        wanted["inheritable"] & available,
    )
    if wanted["ambient"]:
        caps.set_ambient(wanted["ambient"] & available)


def _take_ids(uid: int, gid: int, groups: "list[int]", strict: bool) -> None:
    try:
        os.setgroups(groups)
    except PermissionError:
        # A user namespace may have given up that right for good.
        if groups and strict:
            raise
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def last_filter(plan: "ProcessPlan", report: int = -1, go: int = -1) -> None:
    """Load the filter as late as possible where no_new_privs allows it without a capability."""
    if plan["seccomp"] and plan["no_new_privileges"]:
        _load_filter(plan, report, go)


def _emulate(plan: "ProcessPlan", account: "Account", report: int, go: int) -> bool:
    """Load the filter whose calls a supervisor answers; False where the kernel has no such."""
    flags = c.SECCOMP_FILTER_FLAG_NEW_LISTENER
    try:
        try:
            # What was begun for a caller is finished: a signal would have it called again.
            listener = seccomp_set_filter(
                plan["emulating_filter"], flags | c.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            )
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            listener = seccomp_set_filter(plan["emulating_filter"], flags)
    except OSError:  # before Linux 5.0, or somebody around us has such a filter already
        return False
    _pass_on(("seccomp", listener, *account[:3]), report, go)
    os.close(listener)
    plan["seccomp"] = b""
    return True


def _pass_on(message: "tuple[object, ...]", report: int, go: int) -> None:
    """Let the launcher fetch a listener: our own sendmsg may be one of the calls that wait."""
    send(report, message)
    if os.read(go, 1) != b"s":
        os._exit(125)


def _load_filter(plan: "ProcessPlan", report: int, go: int) -> None:
    load = plan["seccomp_load"]
    if not load["flags"] and not load["listener"]:
        set_seccomp_filter(plan["seccomp"])
        return
    flags = load["flags"]
    if load["listener"]:
        flags |= c.SECCOMP_FILTER_FLAG_NEW_LISTENER
    listener = seccomp_set_filter(plan["seccomp"], flags)
    if load["listener"]:
        _pass_on(("seccomp", listener), report, go)
        os.close(listener)
