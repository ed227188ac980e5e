"""Settings that hold for every command: config.toml, and PYBUILD_* variables above it.

`/etc/pybuild/config.toml` first, then `$XDG_CONFIG_HOME/pybuild/config.toml`: the later one wins.
A setting `max-used-space` of the table `gc` is the variable PYBUILD_GC_MAX_USED_SPACE. Owns where
settings come from; what they mean, and which there are, is their reader's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pybuild.errors import PybuildError

SYSTEM_FILE = "/etc/pybuild/config.toml"


def files() -> tuple[str, ...]:
    """Return the paths of the configuration files, the one that wins last."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return (SYSTEM_FILE, os.path.join(home, "pybuild", "config.toml"))


def settings(table: str, known: Sequence[str]) -> dict[str, tuple[object, str]]:
    """Return the settings of a table with the place of each, for errors.

    known: the settings that there are. Raises PybuildError for others, and for a file that cannot
    be read.
    """
    found: dict[str, tuple[object, str]] = {}
    for path in files():
        if not os.path.exists(path):
            continue
        given = _read(path).get(table, {})
        if not isinstance(given, Mapping):
            raise PybuildError(f"{path}: {table} is no table", hint=f"write it as [{table}]")
        for key, value in given.items():
            if key not in known:
                raise PybuildError(
                    f"{path}: [{table}] has an unknown setting {key}",
                    hint=f"there is: {', '.join(known)}",
                )
            found[key] = (value, f"{path}: [{table}] {key}")
    for key in known:
        name = f"PYBUILD_{table}_{key}".replace("-", "_").upper()
        if name in os.environ:
            found[key] = (os.environ[name], name)
    return found


def _read(path: str) -> Mapping[str, object]:
    import tomllib  # 8 ms, for who has a file

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError) as error:
        raise PybuildError(f"{path}: {error}") from error
