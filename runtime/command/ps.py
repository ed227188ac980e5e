"""ps: print the processes of a container, as the host's ps shows them."""

import sys

from runtime import cgrouptree
from runtime.command.arguments import container_id
from runtime.command.context import Context
from runtime.command.options import Options, Parsed, UsageError
from runtime.container import Container
from runtime.errors import RuntimeFailure

USAGE = "[OPTIONS] ID [OPTIONS OF PS]"
INTERSPERSED = False
OPTIONS: Options = {"format": ("f", "text")}


def run(parsed: Parsed, context: Context) -> int:
    """Print ps's lines of the container's processes, or their numbers as JSON."""
    container = Container.load(context.root, container_id(parsed, more=True))
    pids = cgrouptree.members(container.cgroups)
    form = parsed.text("format", "table")
    if form == "json":
        sys.stdout.write("[" + ",".join(map(str, pids)) + "]\n")
        return 0
    if form != "table":
        raise UsageError(f"--format: {form!r} is neither table nor json")
    import subprocess

    words = ["ps", *(parsed.words[1:] or ["-ef"])]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeFailure(f"ps: {error.strerror}", hint="the host has no ps") from error
    if done.returncode:
        raise RuntimeFailure(f"{' '.join(words)}: {done.stderr.strip()}")
    title, *lines = done.stdout.splitlines()
    if "PID" not in title.split():
        raise RuntimeFailure(f"{' '.join(words)}: prints no column PID")
    column = title.split().index("PID")
    wanted = set(map(str, pids))
    shown = [line for line in lines if wanted.intersection(line.split()[column : column + 1])]
    sys.stdout.write("\n".join([title, *shown]) + "\n")
    return 0
