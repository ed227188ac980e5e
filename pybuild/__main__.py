"""`python -m pybuild` and the console script."""

import os
import sys


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


if __name__ == "__main__":
    forget_working_directory()
    sys.exit(main())
