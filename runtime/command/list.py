"""list: print the containers of a root."""

import os
import sys

from runtime import jsontext
from runtime.command.context import Context
from runtime.command.options import Options, Parsed, UsageError
from runtime.container import Container
from runtime.errors import RuntimeFailure

USAGE = "[OPTIONS]"
OPTIONS: Options = {"format": ("f", "text"), "quiet": ("q", "flag")}
_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def run(parsed: Parsed, context: Context) -> int:
    """Print a table, JSON or IDs alone."""
    if parsed.words:
        raise UsageError(f"no arguments are expected, not {parsed.words[0]!r}")
    rows = list(_states(context))
    form = parsed.text("format", "table")
    if parsed.flag("quiet"):
        sys.stdout.write("".join(f"{row['id']}\n" for row in rows))
    elif form == "json":
        sys.stdout.write(jsontext.dumps(rows or None).decode())
    elif form == "table":
        _print_table(rows)
    else:
        raise UsageError(f"--format: {form!r} is neither table nor json")
    return 0


def _states(context: Context) -> "list[dict[str, object]]":
    found: list[dict[str, object]] = []
    try:
        names = sorted(os.listdir(context.root))
    except FileNotFoundError:
        return found
    except OSError as error:
        raise RuntimeFailure(f"--root {context.root}: {str(error.strerror).lower()}") from error
    for name in names:
        try:
            container = Container.load(context.root, name)
        except RuntimeFailure:
            continue  # not one of ours, or removed meanwhile
        found.append(container.description(_owner(container.record.get("owner", 0))))
    return found


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _print_table(rows: "list[dict[str, object]]") -> None:
    lines = [_COLUMNS, *(tuple(str(row[name.lower()]) for name in _COLUMNS) for row in rows)]
    widths = [max(len(line[number]) for line in lines) + 2 for number in range(len(_COLUMNS))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("".join(cells).rstrip() + "\n")
