"""What a verb is, and what it is given.

A verb module holds `VERBS`, a mapping of verb name to `Verb`; `pybuild.cli.main` imports only the
module of the verb that was named.
"""

from __future__ import annotations

from collections.abc import Callable

from pybuild.cli.options import Parsed, Syntax
from values.classes import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Session:
    """What the global options say.

    root: the folder of the store, None for the default.
    debug: show tracebacks and plans.
    """

    root: str | None = None
    debug: bool = False

    def engine(self, *, reading: bool = False) -> Engine:
        """Return a new Engine on the chosen store; the caller closes it.

        An ordinary user's process becomes root of a user namespace, where that is possible.
        reading: for a verb that needs nothing but what is there: where there is no store it makes
        none.
        """
        from pybuild.cli.report import warn
        from pybuild.engine.core import default_root
        from pybuild.engine.engine import Engine
        from runtime.rootless.entering import enter

        root = self.root or default_root()  # inside we are root, whose default is another
        enter()
        return Engine(root, reading=reading, on_damage=warn)


@dataclass(frozen=True, slots=True)
class Verb:
    """A row of a verb module: its command line and what it does.

    run: returns the exit code.
    in_container: exit codes from 0 to 124 and above 127 belong to the container, ours is 125.
    """

    syntax: Syntax
    run: Callable[[Parsed, Session], int]
    in_container: bool = False
