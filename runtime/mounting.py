"""Performs the mounts that the store describes, without a path: nothing shows on the host."""

from __future__ import annotations

import os
import threading

from runtime.errors import MountFailed, NotPrivileged
from runtime.linux import overlay
from runtime.rootfs import root_plan
from runtime.rootless.entering import mode
from store.mount import OverlayMount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import RootPlan

_VALUE_LIMIT = 255  # fsconfig takes strings of up to 256 bytes, the last of them zero


def open_overlay(mount: OverlayMount) -> int:
    """Return a directory descriptor of the root of `mount`, which is attached nowhere.

    Closing the descriptor, and all that were opened through it, unmounts. Safe in any thread; the
    working directory does not matter.
    Raises NotPrivileged or MountFailed.
    """
    plan = root_plan(mount)
    if not mode().may_mount:
        return _open_directory(plan)
    base = -1
    try:
        base = os.open(plan["base"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        tree = _mount(plan, base)
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
        finally:
            os.close(tree)
    except PermissionError as error:
        raise NotPrivileged(
            f"mount {plan['base']}: {error.strerror}", hint="mounting needs root (CAP_SYS_ADMIN)"
        ) from error
    except OSError as error:
        subject = f" ({error.filename})" if error.filename else ""
        raise MountFailed(f"mount {plan['base']}: {error.strerror}{subject}") from error
    finally:
        if base >= 0:
            os.close(base)


def _open_directory(plan: RootPlan) -> int:
    """Return a descriptor of what needs no mount, where none can be made."""
    several = [*plan["lowers"], *([plan["upper"]] if plan["upper"] is not None else [])]
    if len(several) > 1:
        raise MountFailed(f"mount {plan['base']}: nothing can be mounted here")
    path = os.path.join(plan["base"], several[0])
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MountFailed(f"open {path}: {error.strerror}") from error


def _mount(plan: RootPlan, base: int) -> int:
    def at(path: str) -> str:
        whole = os.path.join(plan["base"], path)
        return whole if len(os.fsencode(whole)) <= _VALUE_LIMIT else f"/proc/self/fd/{base}/{path}"

    lowers = [at(lower) for lower in plan["lowers"]]
    upper = at(plan["upper"]) if plan["upper"] is not None else None
    work = at(plan["work"]) if plan["work"] is not None else None
    if upper is None and len(lowers) == 1:
        return overlay.directory(lowers[0], read_only=True)
    if upper is not None and not lowers:
        return overlay.directory(upper, read_only=False)
    try:
        return overlay.overlay(lowers, upper, work, plan["flags"])
    except OSError as error:
        if not overlay.lowerdir_plus_missing(error):
            raise
        return _by_mount(plan)


def _by_mount(plan: RootPlan) -> int:
    """Mount as kernels without `lowerdir+` can, in a thread that has left our mount namespace."""
    result: list[int | OSError] = []

    def work() -> None:
        try:
            overlay.leave_mount_namespace()
            os.chdir(plan["base"])  # of this thread alone, now
            result.append(
                overlay.overlay_by_mount(plan["lowers"], plan["upper"], plan["work"], plan["flags"])
            )
        except OSError as error:
            result.append(error)

    thread = threading.Thread(target=work, name="mount")
    thread.start()
    thread.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]
