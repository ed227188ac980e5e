"""The words of a command line that are no options."""

from runtime.command.options import Parsed, UsageError
from runtime.container import check_id


def container_id(parsed: Parsed, *, more: bool = False) -> str:
    """Return the container that the command line names. Raises UsageError, RuntimeFailure.

    more: other words may follow.
    """
    if not parsed.words:
        raise UsageError("a container ID is required")
    if len(parsed.words) > 1 and not more:
        raise UsageError(f"one container ID is expected, not also {parsed.words[1]!r}")
    check_id(parsed.words[0])
    return parsed.words[0]
