"""What holds other things open until it is closed itself."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Held:
    """A context manager that leaves what it holds, the last first, when it is closed."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def keep(self, held: AbstractContextManager[object]) -> Self:
        """Leave `held`, which was entered, when this has been closed; return this."""
        inner = self._held
        self._held = ExitStack()
        self._held.push(held)
        self._held.push(inner)
        return self

    def close(self) -> None:
        """Leave all that is held; again is fine."""
        self._held.close()
