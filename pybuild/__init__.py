"""What people and clients touch: command line, Engine and Python API.

The API is what stands in `__all__`; docs/python.md describes it. Importing it is cheap: a name's
module comes with its first use.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.causes import Cause
    from pybuild.building import Build, Step, build
    from pybuild.engine.engine import Engine
    from pybuild.engine.filetree import FileTree
    from pybuild.engine.live import Container, Finished
    from pybuild.errors import (
        BudgetExceeded,
        BuildCanceled,
        BuildError,
        BuildNotPrivileged,
        CommandFailed,
        ContainerError,
        DockerfileError,
        ImageMissing,
        InvalidRequest,
        NotPrivileged,
        PybuildError,
        SecretLeaked,
        StepFailed,
    )
    from pybuild.holding import container, run
    from registry_client.errors import RegistryError
    from runtime.errors import RuntimeFailure
    from runtime.rootless.entering import enter as enter_user_namespace
    from store.errors import StoreError

__all__ = [
    "BudgetExceeded",
    "Build",
    "BuildCanceled",
    "BuildError",
    "BuildNotPrivileged",
    "Cause",
    "CommandFailed",
    "Container",
    "ContainerError",
    "DockerfileError",
    "Engine",
    "FileTree",
    "Finished",
    "ImageMissing",
    "InvalidRequest",
    "NotPrivileged",
    "PybuildError",
    "RegistryError",
    "RuntimeFailure",
    "SecretLeaked",
    "Step",
    "StepFailed",
    "StoreError",
    "build",
    "container",
    "enter_user_namespace",
    "run",
]

_MODULES = {
    "Build": "pybuild.building",
    "Cause": "builder.causes",
    "Container": "pybuild.engine.live",
    "Engine": "pybuild.engine.engine",
    "FileTree": "pybuild.engine.filetree",
    "Finished": "pybuild.engine.live",
    "RegistryError": "registry_client.errors",
    "RuntimeFailure": "runtime.errors",
    "Step": "pybuild.building",
    "StoreError": "store.errors",
    "build": "pybuild.building",
    "container": "pybuild.holding",
    "run": "pybuild.holding",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'pybuild' has no attribute {name!r}")
    from importlib import import_module

    if name == "enter_user_namespace":
        found: object = import_module("runtime.rootless.entering").enter
    else:
        found = getattr(import_module(_MODULES.get(name, "pybuild.errors")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
