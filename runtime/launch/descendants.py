"""Processes where no pid namespace holds them: what is left of a command is our child, and ends."""

import os

from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux.landlock import can_scope_signals, scope_signals
from runtime.linux.process import prctl


def adopt_descendants() -> None:
    """Let whatever our children leave behind become our child, as nobody else's."""
    prctl(c.PR_SET_CHILD_SUBREAPER, 1)


def keep_signals_inside() -> None:
    """Let the command reach no process but its own, where the kernel can see to that."""
    if can_scope_signals():
        scope_signals()


def end_children() -> None:
    """Kill whatever became our child, and what becomes it then, until there is none."""
    while children := _children():
        for pid in children:
            with tolerate(ProcessLookupError):
                os.kill(pid, c.SIGKILL)
            with tolerate(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> "list[int]":
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with tolerate(OSError):  # gone meanwhile
                with open(f"/proc/{name}/stat", "rb") as file:
                    # After the command, which may hold blanks: state, parent.
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                if parent == os.getpid():
                    found.append(int(name))
    return found
