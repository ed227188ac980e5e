"""Build cases: testdata/builds/*.toml, and what a real builder made of them.

A case is a Dockerfile, the files of its context (COMMON_ROWS unless it says), and what it covers.
What has to come out is what another builder made, kept in testdata/builds/recorded.json by
scripts/record_builds.py; a case with `cites` follows the source that it names instead, because no
builder at hand knows it, and says in `files`, `absent`, `config` and `history` what has to come
out. `refused` is what our error says. `exact`: the text is taken as it is. `buildah`: it judges
the case, too. `gone`: what the recording builder left behind and newer ones take away, the mount
points of RUN's mounts.
"""

import functools
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builds import imagetree
from builds.sources import Row

FOLDER = Path(__file__).parents[2] / "testdata/builds"
RECORDED = FOLDER / "recorded.json"
# What a history entry's text shows of these differs between builders; testdata/lowering has it.
_FLAGS = re.compile(r"(?<=^COPY )(--\S+ )+|(?<=^ADD )(--\S+ )+")
_VALUES = re.compile(r"(?<=^ARG )(\S+?)=.*|(?<=^EXPOSE).*()|(?<=^HEALTHCHECK).*()")
# The parts of a config that a Dockerfile decides.
CONFIG_KEYS = (
    *("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell"),
    *("StopSignal", "User", "Volumes", "WorkingDir"),
)
COMMON_ROWS: tuple[Row, ...] = (
    ("f", "file 644 77:78", "f\n"),
    ("inner", "file 644", "inner\n"),
    ("dir/a", "file 644", "a\n"),
    ("dir/sub", "dir 750"),
    ("dir/sub/b", "file 600", "b\n"),
    ("[odd]*", "file 644", "odd\n"),
    ("with blank", "file 644", "blank\n"),
    ("behind/deep/through", "file 644", "through\n"),
    ("linked", "link", "behind/deep"),
    ("flink", "link", "f"),
    ("notar.tar", "file 644", "text\n"),
    ("links/rel", "link", "../f"),
    ("links/gone", "link", "nowhere"),
    ("links/abs", "link", "/etc/passwd"),
    ("hard/one", "file 644", "1\n"),
    ("hard/two", "hard", "one"),
    ("special/setuid", "file 4755", "s\n"),
    ("special/capable", "capable", "c\n"),
    ("special/fifo", "fifo 640"),
    ("special/null", "char 622 1,3"),
    ("special/socket", "socket"),
    ("a.tar", "tar", [["in/tar", "file 640 5:6", "t"]]),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One case. covers: `item good`, `item bad` or `item odd`, see testdata/builds/items.toml."""

    name: str
    dockerfile: str
    covers: tuple[str, ...] = ()
    rows: tuple[Row, ...] = COMMON_ROWS
    build_args: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    cites: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    target: str | None = None
    exact: bool = False
    buildah: bool = False
    gone: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The Dockerfile: one that does not begin with FROM has the common base."""
        if self.exact:
            return self.dockerfile
        begins = self.dockerfile.lstrip().startswith(("FROM", "ARG", "#"))
        return ("" if begins else "FROM base\n") + self.dockerfile.lstrip("\n").rstrip("\n") + "\n"


def read_case(data: dict[str, Any]) -> Case:
    """Return a case of a table. Raises TypeError for a key that there is not."""
    lists = {
        key: tuple(data[key])
        for key in ("covers", "refused", "absent", "gone", "history")
        if key in data
    }
    if "context" in data:
        data["rows"] = tuple(tuple(row) for row in data.pop("context"))
    return Case(**{**data, **lists})


def read_cases(folder: Path = FOLDER) -> dict[str, Case]:
    """Return all cases by name. Raises ValueError where two have one name."""
    found: dict[str, Case] = {}
    for path in sorted(folder.glob("*.toml")):
        for data in tomllib.loads(path.read_text()).get("case", ()):
            case = read_case(data)
            if case.name in found:
                raise ValueError(f"{path.name}: there is a case {case.name} already")
            found[case.name] = case
    return found


def outcome(image: imagetree.Image, base: imagetree.Image) -> dict[str, Any]:
    """Return what a build made, as it is recorded: what differs from the base, all attributes."""
    files = imagetree.lines_of(image.files, full=True)
    before = imagetree.lines_of(base.files, full=True)
    return {
        "files": {path: line for path, line in files.items() if before.get(path) != line},
        "removed": [path for path in before if path not in files]
        if before.keys() & files
        else ["/"],
        "config": shown_config(image),
        "history": history(image.config),
    }


def shown_config(image: imagetree.Image) -> dict[str, Any]:
    """Return what a Dockerfile decides of an image's config."""
    config = image.config["config"]
    assert isinstance(config, dict)
    found = {key: config[key] for key in CONFIG_KEYS if config.get(key)}
    return found | ({"author": image.config["author"]} if image.config.get("author") else {})


def as_cited(case: Case, image: imagetree.Image) -> bool:
    """Tell whether an image is what a case says that cites a source."""
    found, config = imagetree.lines_of(image.files, full=False), shown_config(image)
    return (
        {path: found.get(path) for path in case.files} == case.files
        and not [path for path in case.absent if path in found]
        and {key: config.get(key) for key in case.config} == case.config
        and case.history in ((), tuple(history(image.config)))
    )


def history(config: Mapping[str, Any]) -> list[str]:
    """Return the history's pattern: what made each entry, `(empty)` before those without layer.

    Left out are the flags of COPY and ADD, the values of ARGs, ports and health checks.
    """
    return [
        f"{'(empty) ' if row.get('empty_layer') else ''}{_shown(row.get('created_by', ''))}"
        for row in config["history"]
        if "import" not in row.get("comment", "").lower()
    ]


def _shown(created_by: str) -> str:
    return _VALUES.sub(lambda found: found[1] or "", _FLAGS.sub("", created_by))


def expected(case: Case) -> dict[str, Any]:
    """Return what was recorded for a case, less what newer builders take away."""
    row: dict[str, Any] = recorded()["cases"][case.name]
    if "files" not in row:
        return row
    return {**row, "files": {p: line for p, line in row["files"].items() if p not in case.gone}}


@functools.cache
def recorded() -> dict[str, Any]:
    """Return what the recording builder made: `builder` is its name, `cases` are by name.

    `contexts` are those of contexts.toml.
    """
    known: dict[str, Any] = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    return {"builder": "", "cases": {}, "contexts": {}, **known}
