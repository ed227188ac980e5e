"""The ids that /etc/subuid and /etc/subgid give to a user, and the programs that map them."""

import os

from runtime.rootless.mode import IdRange

# Where set-user-id programs are, whatever the PATH of the caller says.
_FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/usr/local/bin", "/run/wrappers/bin")


def ranges(path: str, names: "tuple[str, ...]") -> "list[IdRange]":
    """Return (first id, how many) of the lines of `path` that begin with one of `names`.

    names: the user's name and number. A missing file has no lines. Source: subuid(5).
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if name in names and first.isdigit() and count.isdigit() and int(count):
            found.append((int(first), int(count)))
    return found


def map_arguments(own: int, found: "list[IdRange]") -> "list[str]":
    """Return the arguments of newuidmap that make `own` root and the others follow from 1 on."""
    words, inside = ["0", str(own), "1"], 1
    for first, count in found:
        words += [str(inside), str(first), str(count)]
        inside += count
    return words


def program(name: str) -> str:
    """Return the path of newuidmap or newgidmap, "" where it is not installed."""
    for folder in (*_FOLDERS, *os.environ.get("PATH", "").split(":")):
        path = f"{folder}/{name}"
        if folder.startswith("/") and os.access(path, os.X_OK):
            return path
    return ""
