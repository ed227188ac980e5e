"""A display that says more when the build has ended: `--explain` and `--profile`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.events import Event
    from pybuild.cli.display import Display


class Afterwards:
    """Another display that also prints texts about the build at the end, however it ended.

    texts: each makes a text of the id of a build of the journal.
    """

    def __init__(self, display: Display, texts: Sequence[Callable[[str], str]]) -> None:
        self._display, self._texts = display, texts
        self.unseen_lines = display.unseen_lines
        self._build_id = ""

    def __call__(self, event: Event) -> None:
        """Show an event, and note which build it is."""
        from builder.events import BuildStarted

        if isinstance(event, BuildStarted):
            self._build_id = event.build_id
        self._display(event)

    def abandon(self) -> None:
        """As the other display does."""
        self._display.abandon()

    def suspend(self, stop: Callable[[], None]) -> None:
        """As the other display does."""
        self._display.suspend(stop)

    def finish(self) -> None:
        """End the other display, then print the texts to stderr."""
        self._display.finish()
        if self._build_id:
            for text in self._texts:
                print(text(self._build_id), end="", file=sys.stderr)
