"""The end of a container: its processes, cgroups, hooks and folder, in this order."""

import os

from runtime import cgrouptree
from runtime.container import Container
from runtime.creating import run_own_hooks
from runtime.errors import RuntimeFailure, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.creating import Warn


def destroy(container: Container, warn: "Warn") -> None:
    """Remove a container, locked, with all that lives in it."""
    container.kill_init()
    cgrouptree.kill_all(container.cgroups)
    if "scope" in container.record:
        _remove_scope(container, warn)
    cgrouptree.remove(container.cgroups)
    if "resctrl" in container.record:
        from runtime import resctrl

        resctrl.remove(container.record["resctrl"])
    if container.record.get("ready"):
        run_own_hooks(container, "poststop", "stopped", warn)
    container.remove_folder()


def _remove_scope(container: Container, warn: "Warn") -> None:
    from runtime.systemd import scope

    try:
        scope.remove(container.record["scope"])
    except RuntimeFailure as failure:
        warn(str(failure))
        scope.await_notice(container.cgroups)


def destroy_interrupted(container: Container) -> None:
    """Remove what a creation left that was killed before it wrote its first state."""
    container.remove_folder()


def delete(container: Container, *, force: bool, warn: "Warn") -> None:
    """Do what `delete` does with a locked container. Raises WrongState unless `force`."""
    try:
        container.read()
    except WrongState:
        if not force and os.listdir(container.folder):
            raise
        destroy_interrupted(container)
        return
    status = container.status()
    if not force and status not in ("stopped", "created"):
        text = f"cannot delete container {container.id} that is not stopped: {status}"
        raise WrongState(text, hint="--force kills it first")
    destroy(container, warn)
