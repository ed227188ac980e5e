"""Where a test may kill the process.

A store must be clean after a kill at any instant. The instants worth testing are the steps of a
commit, and each of them calls `checkpoint` with its name. Nothing happens there unless the
environment variable PYBUILD_STORE_KILL_AT holds that name, or `name:2` for its second time; then
the process gets SIGKILL, which no handler sees and no `finally` survives.
"""

import os
import signal

VARIABLE = "PYBUILD_STORE_KILL_AT"

_passed: dict[str, int] = {}


def checkpoint(name: str) -> None:
    """Kill this process at once when the environment asks for its death here."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    point, _, times = wanted.partition(":")
    if point == name:
        _passed[name] = _passed.get(name, 0) + 1
        if _passed[name] == int(times or "1"):
            os.kill(os.getpid(), signal.SIGKILL)
