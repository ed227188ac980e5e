"""How an error reaches the person and which exit code it becomes.

The one table from exception type to exit code. Types are named, not imported: an exception that
was raised has its module loaded, all others would cost start-up time.
"""

from __future__ import annotations

import os
import sys

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_MOST = 20  # errors of one file that are shown

# The first class of the exception's MRO that is named here decides.
_EXIT_CODES = {
    "pybuild.errors.UsageError": 2,
    "pybuild.errors.PybuildError": 1,
    "builder.errors.Canceled": EXIT_INTERRUPTED,
    "builder.errors.BuildError": 1,
    "grammar.errors.GrammarError": 1,
    "registry_client.errors.RegistryError": 1,
    "runtime.errors.RuntimeFailure": 1,
    "store.errors.StoreError": 1,
    "builtins.OSError": 1,
    "builtins.KeyboardInterrupt": EXIT_INTERRUPTED,
}

# `run`: every failure of ours is 125, so that it cannot be taken for the command's own.
_CONTAINER_EXIT_CODES = {
    "runtime.errors.Cancelled": EXIT_INTERRUPTED,
    "runtime.errors.CommandNotExecutable": 126,
    "runtime.errors.CommandNotFound": 127,
    "builtins.KeyboardInterrupt": EXIT_INTERRUPTED,
    "builtins.BaseException": 125,
}


def exit_code(error: BaseException, *, in_container: bool = False) -> int:
    """Return the exit code that `error` stands for."""
    if in_container:
        return _look_up(_CONTAINER_EXIT_CODES, error) or 125
    return _look_up(_EXIT_CODES, error) or 1


def is_expected(error: BaseException) -> bool:
    """Tell whether `error` is one that was raised on purpose, and no fault of this program."""
    return _look_up(_EXIT_CODES, error) is not None


def report(error: BaseException, *, debug: bool) -> None:
    """Print `error` to stderr: its details, `error: …`, `hint: …`; a traceback where asked.

    An error that stands for several is printed as all of them.
    """
    if debug:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    elif is_expected(error):
        errors = getattr(error, "errors", None) or (error,)
        for each in errors[:_MOST]:
            _report_one(each)
        if len(errors) > _MOST:
            print(f"… and {len(errors) - _MOST} more errors", file=sys.stderr)
        kept = [entry for each in errors if (entry := getattr(each, "entry", ""))]
        if kept:
            # One needs no number: it is the step that failed.
            names = kept if len(kept) > 1 else [kept[0].partition(":")[0]]
            commands = " or ".join(f"pybuild enter {name}" for name in names)
            print(f"hint: to look around where it failed: {commands}", file=sys.stderr)
    else:
        kind = type(error).__name__
        print(f"error: bug in pybuild: {kind}: {_one_line(str(error))}", file=sys.stderr)
        if not debug:
            print("hint: pybuild --debug … shows the traceback", file=sys.stderr)


def warn(error: Exception) -> None:
    """Print an error that stopped nothing to stderr, in a line."""
    hint = hint_of(error)
    print(f"warning: {message_of(error)}{f' (hint: {hint})' if hint else ''}", file=sys.stderr)


def _report_one(error: BaseException) -> None:
    output = getattr(error, "output", None)
    if isinstance(output, str) and output:
        from pybuild.cli.celltext import plain_text

        lines = "\n".join(map(plain_text, output.split("\n")))
        rule = "-" * 6
        print(f"{rule}\n > {getattr(error, 'step_name', '')}:\n{lines}\n{rule}", file=sys.stderr)
    details = getattr(error, "details", None)
    if details:
        print(str(details).rstrip("\n"), file=sys.stderr)
    message = message_of(error)
    print(f"error: {message}", file=sys.stderr)
    hint = hint_of(error)
    if hint and hint not in message:
        print(f"hint: {hint}", file=sys.stderr)


def message_of(error: BaseException) -> str:
    """Return the text that describes `error`; only syntax errors take more than a line."""
    render = getattr(error, "render", None)
    if callable(render):
        return str(render()).rstrip("\n")
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return f"{where}{error.strerror.lower()}"
    return _one_line(str(error))


def hint_of(error: BaseException) -> str | None:
    """Return what to do about `error`, where that is known."""
    import errno

    hint = getattr(error, "hint", None)
    if isinstance(hint, str) and hint:
        return hint
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some space, or choose another --root for the store"
    return None


def _look_up(table: dict[str, int], error: BaseException) -> int | None:
    for cls in type(error).__mro__:
        code = table.get(f"{cls.__module__}.{cls.__qualname__}")
        if code is not None:
            return code
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))
