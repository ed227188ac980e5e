"""How a RUN is walled in: by namespaces, or, where there can be none, by another root alone."""

import os
from typing import Literal

from builder.errors import InstructionError, Place
from builder.request import Sandbox
from runtime.rootless.entering import mode

Isolation = Literal["namespaces", "chroot", "none"]

# What docker, podman and Kubernetes leave in a container: files and variables.
MARKS: tuple[str, ...] = ("/.dockerenv", "/run/.containerenv", "/run/secrets/kubernetes.io")
NAMED = ("container", "KUBERNETES_SERVICE_HOST")
RULE = "ChrootIsolation"
WARNING = (
    "RUN has another root directory and no other wall: it sees the processes and the network "
    "around the build, and has no /proc, /sys and mounts of its own"
)


def isolation_of(sandbox: Sandbox) -> Isolation:
    """Return how the steps of a build are walled in; `none`: they cannot be run."""
    found = mode()
    if sandbox.isolation == "chroot" and found.kind != "none":
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
    if found.kind == "chroot":
        why = f"--isolation=chroot runs it with hardly any wall; {why}"
    return InstructionError(place, "RUN: no mounts and no namespaces can be made here", hint=why)
