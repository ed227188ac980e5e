"""`Engine`: the one thing that faces talk to.

Owns the open store and nothing else; each method hands over to the module that knows how. What is
not a method here cannot be done by the command line nor by any other face.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from builder.events import Event
    from builder.request import BuildRequest
    from pybuild.engine.builds import BuildResult
    from store.root import Store


def default_root() -> str:
    """Return the folder of the store where no one named another.

    PYBUILD_ROOT, else /var/lib/pybuild for root and $XDG_DATA_HOME/pybuild for others.
    """
    named = os.environ.get("PYBUILD_ROOT")
    if named:
        return named
    if os.geteuid() == 0:
        return "/var/lib/pybuild"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "pybuild")


class Engine:
    """Builds, runs and keeps images in one store.

    A context manager. The store is opened when something first needs it, and closed at the end.
    """

    def __init__(self, root: str | None = None) -> None:
        self.root = os.path.abspath(root or default_root())
        self._store: Store | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; the next use opens it again."""
        store, self._store = self._store, None
        if store is not None:
            store.__exit__(None, None, None)

    @property
    def store(self) -> Store:
        """The open store. Raises StoreError when it cannot be opened."""
        if self._store is None:
            from store.root import Store

            self._store = Store.open(self.root).__enter__()
        return self._store

    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: object = None
    ) -> BuildResult:
        """Build `request`, reporting every event as it happens, and return what was made."""
        from pybuild.engine.builds import build

        return build(self, request, on_event, cancel)
