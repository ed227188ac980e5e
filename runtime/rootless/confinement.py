"""Whether an AppArmor profile lets us mount: docker's allows user namespaces, and no mounts."""

from runtime.rootless.mode import Mode, Reason
from runtime.rootless.trial import works_in_child
from values.classes import replace


def under_profile(found: Mode, profile: str) -> Mode:
    """Return what a mode comes to under a profile. Only in a process of a single thread."""
    if works_in_child(_make_private):
        return found
    reason = Reason(
        f"the AppArmor profile {profile} forbids mounts",
        "in docker: --security-opt apparmor=unconfined",
    )
    return replace(found, kind="chroot", reasons=(*found.reasons, reason))


def _make_private() -> None:
    """Do, in a mount namespace of our own, what every container begins with."""
    from runtime.linux import constants as c
    from runtime.linux.mount import mount
    from runtime.linux.namespaces import unshare

    unshare(c.CLONE_NEWNS)
    mount("", "/", None, c.MS_REC | c.MS_PRIVATE, None)
