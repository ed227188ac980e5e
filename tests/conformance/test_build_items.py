"""Everything that the language, contexts, ignore files and mounts can do has its build cases.

testdata/builds/items.toml lists what there is; the cases and [tests] there say what they cover,
[without] why there is none.
"""

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

from builds import cases

from builder.runmounts import ALIASES
from grammar import flags

PROJECT = Path(__file__).parents[2]
TABLE = tomllib.loads((cases.FOLDER / "items.toml").read_text())
SORTS = ("good", "bad", "odd")


def items() -> set[str]:
    """Return all items: those of the table, instructions, flags, keys of mounts."""
    found = {item for group in TABLE["items"].values() for item in group}
    found |= {f"{verb} {flag}" for verb in ("COPY", "ADD") for flag in flags.FLAGS[verb]}
    found |= {word for word in flags.INSTRUCTIONS if word not in ("COPY", "ADD")}
    found |= {f"RUN --{flag}" for flag in flags.FLAGS["RUN"] if flag != "mount"}
    for kind, keys in flags.MOUNT_KEYS.items():
        found |= {f"{kind} {ALIASES.get(key, key)}" for key in keys}
    return found


def covered() -> dict[str, set[str]]:
    """Return for each item which sorts of cases there are."""
    found: dict[str, set[str]] = defaultdict(set)
    words = [word for case in cases.read_cases().values() for word in case.covers]
    for word in (*words, *TABLE["tests"], *TABLE["without"]):
        item, _, sort = word.rpartition(" ")
        found[item].add(sort)
    return found


def test_every_item_has_a_good_a_bad_and_an_odd_case() -> None:
    there = covered()
    missing = [
        f"{item} {sort}" for item in sorted(items()) for sort in SORTS if sort not in there[item]
    ]
    assert not missing


def test_cases_cover_items_that_there_are() -> None:
    there = covered()
    assert set(there) <= items()
    assert {sort for sorts in there.values() for sort in sorts} <= set(SORTS)


def test_a_case_that_covers_something_bad_is_refused() -> None:
    for case in cases.read_cases().values():
        sorts = {word.rpartition(" ")[2] for word in case.covers}
        assert "bad" not in sorts or case.refused, case.name


def test_the_named_tests_are_there() -> None:
    for name in TABLE["tests"].values():
        path, _, function = name.partition("::")
        tree = ast.parse((PROJECT / path).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
            name
        )
