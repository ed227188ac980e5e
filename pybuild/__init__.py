"""What people and clients touch: command line, Engine and Python API."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine

__all__ = ["Engine"]


def __getattr__(name: str) -> object:
    # Lazy: `import pybuild.cli.main` must not pay for the Engine.
    if name == "Engine":
        from pybuild.engine.engine import Engine

        return Engine
    raise AttributeError(f"module 'pybuild' has no attribute {name!r}")
