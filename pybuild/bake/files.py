"""Finding and reading bake files. Source: buildx bake/bake.go, ReadLocalFiles and ParseFiles."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence

from pybuild.bake.blocks import Collected
from pybuild.bake.definitions import Definitions
from pybuild.bake.jsonfile import parse_json
from pybuild.bake.syntax import Body
from pybuild.errors import BakeError
from values.classes import dataclass, field

DEFAULT_FILES = (
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
)
_SERVICES = re.compile(rb"(?m)^services[ \t]*:")
_NO_LOOKUP = "BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP"
_TRUE = ("1", "t", "true")


@dataclass(slots=True)
class BakeFiles:
    """All that the files say: targets and groups, and the scope of the variables."""

    found: Collected = field(default_factory=Collected)
    definitions: Definitions | None = None


def read_files(names: Sequence[str]) -> list[tuple[str, bytes]]:
    """Return names and bytes of files, `-` is stdin; of those that are looked for without any.

    Raises BakeError.
    """
    wanted = names or tuple(name for name in DEFAULT_FILES if os.path.exists(name))
    if not wanted:
        raise BakeError(
            "couldn't find a bake definition", hint=f"name it with -f, or {DEFAULT_FILES[4]}"
        )
    return [_read(name.removeprefix("cwd://")) for name in wanted]


def _read(name: str) -> tuple[str, bytes]:
    if name == "-":
        return name, sys.stdin.buffer.read()
    try:
        with open(name, "rb") as file:
            return name, file.read()
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise BakeError(f"read bake file {name}: {cause}") from error


def parse_files(
    files: Sequence[tuple[str, bytes]],
    variables: Mapping[str, str],
    built_in: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
) -> BakeFiles:
    """Return what files say together. variables: those of `--var`, which win. Raises BakeError."""
    outside = {} if environment.get(_NO_LOOKUP, "").lower() in _TRUE else environment
    kinds = [(kind_of(name, data), name, data) for name, data in files]
    parsed = BakeFiles()
    compose = [(name, data) for kind, name, data in kinds if kind == "compose"]
    if compose:
        from pybuild.bake.compose import add_compose
        from pybuild.bake.composetext import environment_of

        known = environment_of(os.getcwd(), outside)
        add_compose(compose, {**known, **variables}, parsed.found)
    bodies = [_body(kind, name, data) for kind, name, data in kinds if kind != "compose"]
    if bodies:
        given = {**outside, **variables}
        parsed.definitions = Definitions(bodies, given.get, built_in)
        parsed.found.add_blocks(parsed.definitions)
    return parsed


def kind_of(name: str, data: bytes) -> str:
    """Return what a file is, by its name, else by its text: json, hcl or compose."""
    lower = name.lower()
    if lower.endswith((".yml", ".yaml")):
        return "compose"
    if lower.endswith((".json", ".hcl")):
        return lower.rpartition(".")[2]
    if data.lstrip()[:1] == b"{":
        return "json"
    return "compose" if _SERVICES.search(data) else "hcl"


def _body(kind: str, name: str, data: bytes) -> Body:
    if kind == "json":
        return parse_json(data, name)
    from pybuild.bake.hclfile import parse_hcl

    return parse_hcl(data, name)
