"""Which progress a build shows: from --progress, --quiet, the environment and the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from pybuild.errors import PybuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.events import Event
    from pybuild.cli.display import Display

KINDS = ("auto", "tty", "plain", "quiet", "none", "rawjson")


# So much of a failed step's log is worth showing where it was not shown while it came.
UNSEEN_LINES = 200


class Silence:
    """Shows nothing."""

    unseen_lines = UNSEEN_LINES

    def __call__(self, _event: Event) -> None:
        """Take an event."""

    def finish(self) -> None:
        """Have nothing to do."""

    def abandon(self) -> None:
        """Have nothing to do."""

    def suspend(self, stop: Callable[[], None]) -> None:
        """Stop: the terminal is as it was."""
        stop()


def display_of(kind: str, environment: Mapping[str, str] = os.environ) -> Display:
    """Return a display of a kind, on stderr. Raises PybuildError for `tty` where there is none."""
    sys.stderr.flush()
    out = sys.stderr.buffer
    if kind in ("quiet", "none"):
        return Silence()
    if kind == "rawjson":
        from pybuild.cli.jsonprogress import JSONProgress

        return JSONProgress(out)
    if kind == "tty" and not out.isatty():
        raise PybuildError(
            "--progress tty: stderr is no terminal", hint="--progress plain works everywhere"
        )
    if kind == "tty" or (kind == "auto" and _is_live(out.isatty(), environment)):
        from pybuild.cli.colours import colours_of
        from pybuild.cli.liveprogress import LiveProgress, log_lines_of
        from pybuild.cli.painter import Painter

        fd = out.fileno()
        painter = Painter(out, lambda: os.get_terminal_size(fd))
        return LiveProgress(painter, colours_of(environment), log_lines_of(environment)).start()
    from pybuild.cli.plainprogress import PlainProgress

    return PlainProgress(out)


def _is_live(on_terminal: bool, environment: Mapping[str, str]) -> bool:
    # A dumb terminal knows no cursor to move.
    return on_terminal and environment.get("TERM") != "dumb"
