"""Who the command runs as: identity, limits, capabilities, the seccomp filter."""

import errno
import os

from runtime.linux import capabilities as caps
from runtime.linux import constants as c
from runtime.linux.process import prctl, set_seccomp_filter, setrlimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.launch.accounts import Account
    from runtime.plan import LaunchPlan


def set_limits(limits: "list[tuple[int, int, int]]") -> None:
    """Set resource limits; what the host does not let us raise stays as it is."""
    for resource, soft, hard in limits:
        try:
            setrlimit(resource, soft, hard)
        except OSError as error:
            # No CAP_SYS_RESOURCE (virtual machines of many providers): docker's limits are
            # a convenience, not a fence.
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise


def become(plan: "LaunchPlan", account: "Account") -> None:
    """Take the identity and the rights of the command, for good."""
    uid, gid, groups, _ = account
    wanted = plan["capabilities"]
    if plan["no_new_privileges"]:
        prctl(c.PR_SET_NO_NEW_PRIVS, 1)
    elif plan["seccomp"]:
        # Loading without no_new_privs takes CAP_SYS_ADMIN, which is dropped below.
        set_seccomp_filter(plan["seccomp"])
    available = caps.limit_bounding(wanted["bounding"])
    prctl(c.PR_SET_KEEPCAPS, 1)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl(c.PR_SET_KEEPCAPS, 0)
    caps.capset(
        wanted["effective"] & available,
        wanted["permitted"] & available,
        wanted["inheritable"] & available,
    )
    if wanted["ambient"]:
        caps.set_ambient(wanted["ambient"] & available)


def last_filter(plan: "LaunchPlan") -> None:
    """Load the filter as late as possible where no_new_privs allows it without a capability."""
    if plan["seccomp"] and plan["no_new_privileges"]:
        set_seccomp_filter(plan["seccomp"])
