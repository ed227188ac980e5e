"""A tree that is printed and parsed again is the same tree."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grammar import ast
from grammar.errors import GrammarError
from grammar.parse import parse, parse_instruction
from grammar.printing import instruction_text, to_text
from tests.unit.grammar.texts import dockerfiles, instructions

GRAMMAR = Path(__file__).parents[3] / "testdata/grammar"
WHOLE = sorted(path.parent for path in GRAMMAR.glob("*/tree.json"))


def fields_of(node: ast.Instruction) -> ast.Instruction:
    """Return a node without what depends on how it was written."""
    if isinstance(node, ast.Onbuild):
        node = replace(node, instruction=fields_of(node.instruction))
    return replace(node, span=ast.Span(0, 0), text="")


def check(tree: ast.Dockerfile) -> None:
    printed = to_text(tree)
    again = parse(printed)
    assert again.directives == tree.directives
    assert list(map(fields_of, again.instructions)) == list(map(fields_of, tree.instructions))
    assert to_text(again) == printed


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_the_trees_of_testdata(case: Path) -> None:
    check(parse((case / "Dockerfile").read_bytes()))


@given(st.one_of(dockerfiles, instructions))
@example("# escape=`\nFROM a\nLABEL `\x0b a=b\n")
@example("FROM a\nENV a\\\x0b b=c # d\n")
@example("FROM a\nCOPY   --\xa0\x0bb=c\nONBUILD RUN x  \t\n")
def test_any_tree(text: str) -> None:
    try:
        tree = parse(text)
    except GrammarError:
        return
    check(tree)


def test_what_is_printed() -> None:
    tree = parse(
        b"# escape=`\n\n# a stage\nfrom --platform='linux/amd64' a as B\n"
        b'run   --mount="type=bind,`"dst=/a,b`"" x `\n   y\ncopy ["a b","/c"]\n'
        b"copy <<'E' b /c\n$x\nE\nrun a `\x0b\n"
    )
    assert to_text(tree) == (
        "# escape=`\n\n# a stage\nFROM --platform=linux/amd64 a AS b\n"
        'RUN --mount="type=bind,`"dst=/a,b`"" x    y\nCOPY ["a b", "/c"]\n'
        "COPY b <<'E' /c\n$x\nE\nRUN a `\x0b\n"
    )


def test_a_trigger_is_printed_as_it_is() -> None:
    node = parse_instruction("onbuild  copy  <<a  /b\nx\na")
    assert instruction_text(node) == "ONBUILD copy  <<a  /b\nx\na"


def test_trees_that_no_text_stands_for() -> None:
    node = ast.Workdir(span=ast.Span(0, 0), text="", path="/a\nRUN b")
    with pytest.raises(ValueError, match="newline"):
        instruction_text(node)
