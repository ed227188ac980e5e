"""`${NAME:-default}` in compose files, and the file .env beside them.

Source: compose-spec interpolation.md; docs.docker.com, "Env file syntax".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pybuild.errors import BakeError

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)"
    r"(?:(?P<how>:?[-?+])(?P<rest>(?:[^{}]|\{[^{}]*\})*))?\}|(?P<wrong>))"
)
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][\w.-]*)\s*(?:=|:\s)\s*(.*)", re.DOTALL)


def interpolated(value: object, environment: Mapping[str, str], place: str) -> object:
    """Return a value with variables replaced in all of its text. Raises BakeError."""
    if isinstance(value, dict):
        return {
            key: interpolated(item, environment, f"{place}.{key}") for key, item in value.items()
        }
    if isinstance(value, list):
        return [interpolated(item, environment, place) for item in value]
    return substituted(value, environment, place) if isinstance(value, str) else value


def substituted(text: str, environment: Mapping[str, str], place: str) -> str:
    """Return text with its variables replaced. Raises BakeError."""

    def one(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        name = found["plain"] or found["name"]
        if not name:
            raise BakeError(f'{place}: invalid interpolation "{text}"', hint="a $ itself is $$")
        value, how = environment.get(name), found["how"] or ""
        there = value is not None and (value != "" or not how.startswith(":"))
        rest = found["rest"] or ""
        if how.endswith("?") and not there:
            message = substituted(rest, environment, place) or "it is not set"
            raise BakeError(f"{place}: required variable {name}: {message}")
        if how.endswith("+"):
            return substituted(rest, environment, place) if there else ""
        if how.endswith("-") and not there:
            return substituted(rest, environment, place)
        return value or ""

    return _VARIABLE.sub(one, text)


def environment_of(folder: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a folder's .env, and the given ones, which win. Raises BakeError."""
    path = os.path.join(folder, ".env")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, IsADirectoryError):
        return dict(given)
    except (OSError, UnicodeDecodeError) as error:
        raise BakeError(f"read {path}: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise BakeError(f"{path}:{number}: no NAME=VALUE")
        found[match[1]] = _unquoted(match[2], {**found, **given}, f"{path}:{number}")
    return {**found, **given}


def _unquoted(text: str, environment: Mapping[str, str], place: str) -> str:
    if text[:1] == "'" and text.rfind("'") > 0:
        return text[1 : text.rfind("'")]
    if text[:1] == '"' and text.rfind('"') > 0:
        inner = text[1 : text.rfind('"')].replace("\\n", "\n").replace('\\"', '"')
        return substituted(inner, environment, place)
    return substituted(re.split(r"\s+#", text, maxsplit=1)[0].strip(), environment, place)
