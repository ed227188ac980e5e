"""How a RUN is walled in: by namespaces, or by what there is of them, or by another root alone."""

import os

from builder.errors import InstructionError, Place
from builder.request import Sandbox
from runtime.rootless.entering import mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    # shared: by all namespaces but that of processes. none: it cannot be run.
    Isolation = Literal["namespaces", "shared", "chroot", "none"]

# What docker, podman and Kubernetes leave in a container: files and variables.
MARKS: tuple[str, ...] = ("/.dockerenv", "/run/.containerenv", "/run/secrets/kubernetes.io")
NAMED = ("container", "KUBERNETES_SERVICE_HOST")
# The rule and the text of the warning about a weaker wall.
WARNINGS = {
    "chroot": (
        "ChrootIsolation",
        "RUN has another root directory and no other wall: it sees the processes and the network "
        "around the build, and has no /proc, /sys and mounts of its own",
    ),
    "shared": (
        "SharedProcesses",
        "RUN sees the processes around the build and a read-only /proc that is theirs: no new one "
        "can be mounted in this container",
    ),
}


def isolation_of(sandbox: Sandbox) -> "Isolation":
    """Return how the steps of a build are walled in; `none`: they cannot be run."""
    found = mode()
    asked = sandbox.isolation == "chroot"
    if found.may_mount and not found.own_proc:
        return "shared" if asked or is_in_container() else "none"
    if asked and found.kind != "none":
        return "chroot"
    if found.may_mount:
        return "namespaces"
    return "chroot" if found.kind == "chroot" and is_in_container() else "none"


def is_in_container() -> bool:
    """Tell whether we are in a container: there the wall around it is there already."""
    return any(map(os.path.exists, MARKS)) or any(name in os.environ for name in NAMED)


def refusal(place: Place) -> InstructionError:
    """Return the error of a RUN at `place`, which cannot be run."""
    found = mode()
    why = "; ".join(map(str, found.reasons)) or "pybuild info says why"
    if found.may_mount:
        text = "RUN: no /proc can be mounted for it here"
        why = f"--isolation=chroot runs it with the processes around the build; {why}"
        return InstructionError(place, text, hint=why)
    if found.kind == "chroot":
        why = f"--isolation=chroot runs it with hardly any wall; {why}"
    return InstructionError(place, "RUN: no mounts and no namespaces can be made here", hint=why)
