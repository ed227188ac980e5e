"""The words of a command line that are no options."""

import os

from runtime.command.context import Context
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


def containers_meant(parsed: Parsed, context: Context, *, more: bool = False) -> "list[str]":
    """Return the containers that the command line means: one, or with --regex all that match.

    Raises UsageError, RuntimeFailure. more: other words may follow. Source: crun, `--regex`.
    """
    if not parsed.flag("regex"):
        return [container_id(parsed, more=more)]
    import re

    if not parsed.words:
        raise UsageError("--regex: a pattern is required")
    try:
        pattern = re.compile(parsed.words[0])
    except re.error as error:
        raise UsageError(f"--regex {parsed.words[0]!r}: {error}") from error
    names = os.listdir(context.root) if os.path.isdir(context.root) else []
    return sorted(name for name in names if not name.startswith(".") and pattern.search(name))


def passed_descriptors(parsed: Parsed) -> "tuple[int, int]":
    """Return how many descriptors from 3 on are the command's, and how many of them are systemd's.

    Raises UsageError where one of them is not open.
    """
    text = os.environ.get("LISTEN_FDS") or "0"
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"LISTEN_FDS: {text!r} is no number")
    count = parsed.number("preserve-fds") + int(text)
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError:
            raise UsageError(f"--preserve-fds: descriptor {fd} is not open") from None
    return count, int(text)
