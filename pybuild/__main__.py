"""`python -m pybuild` and the console script."""

from __future__ import annotations

import contextlib
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def forget_working_directory() -> None:
    """Take the working directory off the import path, where `python -m` puts it.

    A project may well have folders called store, runtime or builder: they must not become ours.
    """
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.path and sys.path[0] in ("", os.getcwd()) and os.path.abspath(sys.path[0]) != ours:
        del sys.path[0]


def main() -> int:
    """Run the command line of this process and return its exit code."""
    from pybuild.cli.main import run

    return run(sys.argv[1:])


def process() -> NoReturn:
    """Be the whole process: run the command line and end without the interpreter's farewell.

    Taking every module apart takes 10 ms, as long as starting a container. What has to be written
    or closed at the end is, by then: `main` returns when all of it has been done.
    """
    # Collecting garbage during start-up finds none and takes 5 % of it.
    gc.set_threshold(50_000)
    code = main()
    with contextlib.suppress(OSError):  # said already, in the exit code
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    forget_working_directory()
    process()
