"""Trying a step again: its policies retry, delay and timeout."""

import time
from collections.abc import Callable
from typing import TypeVar

from builder.errors import BuildError, Canceled, InstructionError, SecretLeaked, StepFailed
from builder.policy import duration_words
from builder.site import Site, Step
from builder.vertex import Vertex

T = TypeVar("T")

# The command is not there, or is no program: the next time too.
_FOR_GOOD = (126, 127)


def tried(attempt: Callable[[], T], vertex: Vertex, site: Site, step: Step) -> T:
    """Return what `attempt` returns, called again as the vertex's policies have it.

    attempt: begins from nothing each time. Between tries others have the step's job slot. Raises
    what the last one raised, Canceled.
    """
    retries, delay_ms = vertex.policies.retry, vertex.policies.delay_ms
    step.tries = 0
    while True:
        step.tries += 1
        step.try_began_ns = time.time_ns()
        try:
            return attempt()
        except InstructionError as error:
            code = error.exit_code if isinstance(error, StepFailed) else 0
            if is_last(vertex, step, code) or not may_pass(error) or site.cancel.is_set():
                raise
            step.output(2, _told(error, step.tries, retries, delay_ms))
        if delay_ms:
            with site.slots.lent():
                site.pause(delay_ms / 1000)


def is_last(vertex: Vertex, step: Step, exit_code: int) -> bool:
    """Tell whether a try that ended with an exit code (0 for none) is followed by no other."""
    return step.tries > vertex.policies.retry or exit_code in _FOR_GOOD


def may_pass(error: BuildError) -> bool:
    """Tell whether trying again might help."""
    return not isinstance(error, Canceled | SecretLeaked)


def _told(error: InstructionError, tries: int, retries: int, delay_ms: int) -> bytes:
    how = error.how if isinstance(error, StepFailed) else str(error)
    when = f"in {duration_words(delay_ms)}" if delay_ms else "now"
    text = f"--- try {tries} of {retries + 1} failed ({how}); the next one begins {when} ---\n"
    return text.encode("utf-8", "backslashreplace")
