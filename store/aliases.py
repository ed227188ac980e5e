"""Short stable names for lower directories: `l/<n>`, a symlink each.

Overlay takes its lower directories in one page of options; with paths of 64 digits that ended at
55 layers.
"""

import contextlib
import os

from store.folder import Folder

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _base_36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text or "0"


def make(folder: Folder, target: str) -> str:
    """Return a new alias for `target`, a path relative to the store's root. Raises OSError."""
    numbers = [int(name, 36) for name in os.listdir(folder.path("l")) if name.isalnum()]
    number = max(numbers, default=0) + 1
    while True:
        alias = _base_36(number)
        try:
            os.symlink(f"../{target}", folder.path("l", alias))
        except FileExistsError:
            number += 1
        else:
            return alias


def remove(folder: Folder, alias: str) -> None:
    """Forget an alias; absent is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(folder.path("l", alias))


def sweep(folder: Folder) -> None:
    """Forget aliases that lead nowhere: their makers died, or their layer was removed.

    Only inside an exclusive lease: a layer on its way has its alias before its name.
    """
    for alias in os.listdir(folder.path("l")):
        if not os.path.exists(folder.path("l", alias)):
            remove(folder, alias)
