"""Every folder of testdata/grammar: a Dockerfile and the tree or the errors it must give.

To add a case, add a folder with a Dockerfile and tree.json or error.txt. A tree leaves out what
has its default value; a span is [first line, last line]. With PYBUILD_WRITE_GOLDEN=1 an empty
tree.json or error.txt is filled, to be read before it is committed.
"""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from grammar import ast
from grammar.errors import DockerfileSyntaxError
from grammar.parse import parse

CASES = sorted(path for path in (Path(__file__).parents[2] / "testdata" / "grammar").iterdir())


def as_json(value: object) -> object:
    if isinstance(value, ast.Span):
        return [value.first_line, value.last_line]
    if dataclasses.is_dataclass(value):
        fields = {
            field.name: as_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
        return {"": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return value


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_grammar(case: Path) -> None:
    tree_file, error_file = case / "tree.json", case / "error.txt"
    assert tree_file.exists() != error_file.exists(), "a case has tree.json or error.txt"
    text = (case / "Dockerfile").read_bytes()
    if error_file.exists():
        with pytest.raises(DockerfileSyntaxError) as caught:
            parse(text)
        found = "".join(f"{error.render()}\n" for error in caught.value.errors)
        if os.environ.get("PYBUILD_WRITE_GOLDEN") == "1" and not error_file.read_text():
            error_file.write_text(found)
        assert found == error_file.read_text()
    else:
        found = json.dumps(as_json(parse(text)), indent=1, ensure_ascii=False) + "\n"
        if os.environ.get("PYBUILD_WRITE_GOLDEN") == "1" and not tree_file.read_text():
            tree_file.write_text(found)
        assert json.loads(found) == json.loads(tree_file.read_text())
