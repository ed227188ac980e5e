"""testdata/rules.toml is true: its tests exist, what switches a rule off fits the code."""

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = tomllib.loads((ROOT / "testdata/rules.toml").read_text())["rule"]


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_bytes())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_a_rule_has_tests(rule) -> None:
    assert set(rule) <= {"name", "says", "tests", "off"}
    assert rule["says"].endswith(".")
    assert rule["tests"]
    for test in [*rule["tests"], *(t for off in rule.get("off", ()) for t in off.get("tests", ()))]:
        path, _, name = test.partition("::")
        assert name in names_in(path), f"{test} is gone: name the test that took its place"
    for off in rule.get("off", ()):
        assert set(off) <= {"file", "from", "to", "tests"}
        count = (ROOT / off["file"]).read_text().count(off["from"])
        assert count == 1, f"{off['file']} has {off['from']!r} {count} times: keep it in step"


def test_names_are_unique() -> None:
    names = [rule["name"] for rule in RULES]
    assert len(names) == len(set(names))
