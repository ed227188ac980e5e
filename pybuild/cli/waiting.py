"""A `run` whose container is silent for long waits in a small process, and comes back at its end.

Owns what a command line's process becomes and what it was. Refuses to know what is waited for.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from pybuild.engine.foreground import ContainerState


def rest(root: str, debug: bool, state: ContainerState) -> None:
    """Become dormant until something happens; return only where that cannot be.

    root: the folder of the store.
    """
    from runtime.launch import dormant
    from runtime.sealedpython import interpreter
    from runtime.terminal import FORWARDED

    if threading.active_count() > 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    _, lock_fd, ((_, orders, report, pidfd, _), _), network = state
    dormant.become(
        interpreter(),
        "pybuild.cli.waiting",
        (root, debug, state),
        awaited=(report,),
        kept=(0, 1, 2, orders, pidfd, lock_fd, *(network[:1] if network else ())),
        signals=map(int, FORWARDED),
        words=["pybuild", *sys.argv[1:]],
    )


def resume(state: tuple[str, bool, ContainerState], numbers: Sequence[int]) -> NoReturn:
    """Be the process again: wait for the container's end, report what failed, exit."""
    from pybuild.cli.report import exit_code, report
    from pybuild.engine.engine import Engine

    root, debug, container = state
    try:
        with Engine(root) as engine:
            code = engine.resume_run(container, numbers, partial(rest, root, debug))
    except (Exception, KeyboardInterrupt) as error:
        report(error, debug=debug)
        code = exit_code(error, in_container=True)
    os._exit(code)
