"""What every display of a build can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from builder.events import Event


class Display(Protocol):
    """What takes the events of one build.

    unseen_lines: how many lines of a failed step's log are to be shown at the end, 0 for the few
    that its error has.
    """

    unseen_lines: int

    def __call__(self, event: Event, /) -> None:
        """Take an event, one at a time, from several threads."""

    def finish(self) -> None:
        """Show what belongs at the end; after it the terminal is anybody's."""

    def abandon(self) -> None:
        """Make the terminal usable, at once and in a signal handler; nothing follows."""

    def suspend(self, stop: Callable[[], None]) -> None:
        """Give the terminal away while `stop` lasts, in a signal handler."""
