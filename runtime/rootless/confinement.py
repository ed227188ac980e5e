"""Whether an AppArmor profile lets us mount: docker's allows user namespaces, and no mounts."""

import os

from runtime.rootless.mode import Mode, Reason
from values.classes import replace


def under_profile(found: Mode, profile: str) -> Mode:
    """Return what a mode comes to under a profile. Only in a process of a single thread."""
    if _can_mount():
        return found
    reason = Reason(
        f"the AppArmor profile {profile} forbids mounts",
        "in docker: --security-opt apparmor=unconfined",
    )
    return replace(found, kind="chroot", reasons=(*found.reasons, reason))


def _can_mount() -> bool:
    """Try, in a mount namespace of a child's own, what every container begins with."""
    from runtime.linux import constants as c
    from runtime.linux.mount import mount
    from runtime.linux.namespaces import unshare

    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    failed = 1
    try:
        unshare(c.CLONE_NEWNS)
        mount("", "/", None, c.MS_REC | c.MS_PRIVATE, None)
        failed = 0
    finally:
        os._exit(failed)
