"""Each page of docs/lint shows a rule: its bad examples break it, its good ones break none.

A bad example says on which line, and with which build-arg if any; the text block below it what is
said. A gitignore block is the ignore file of all examples. Images whose name ends in -for-arm64 are
for arm64 only; all images know the users root and app.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from builder.errors import Place
from builder.lint.engine import Linter, options_of
from builder.lint.rules import RULES
from builder.ops.files import copy_target
from builder.planning import Planner
from builder.request import BuildRequest
from builder.stages import stages_of
from builder.vertex import CopyOp
from grammar import ignorefile
from grammar.parse import parse
from store.digest import digest_of
from store.images import Image
from store.oci import ImageConfig
from store.reference import Reference

PAGES = Path(__file__).parents[2] / "docs/lint"
PLATFORM = "linux/amd64"
_BLOCK = re.compile(
    r"^```(\w+)(?: (bad|good))?(?: line=(\d+))?(?: build-arg=(\w+)=(\w+))?\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Example:
    """One Dockerfile of a page, and the line and message that its rule must give, if it is bad."""

    rule: str
    number: int
    text: str
    expected: tuple[int, str] | None
    build_args: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.rule}-{self.number}-{'bad' if self.expected else 'good'}"


def ignore_file(rule: str) -> str | None:
    blocks = _BLOCK.finditer((PAGES / f"{rule}.md").read_text())
    return next((block[6] for block in blocks if block[1] == "gitignore"), None)


def examples() -> list[Example]:
    found = []
    for rule in RULES:
        blocks = list(_BLOCK.finditer((PAGES / f"{rule}.md").read_text()))
        for number, block in enumerate(blocks):
            if block[1] == "dockerfile":
                expected = None
                if block[2] == "bad":
                    assert blocks[number + 1][1] == "text", f"{rule}: no message below {block[0]}"
                    expected = (int(block[3]), blocks[number + 1][6].strip())
                given = ((block[4], block[5]),) if block[4] else ()
                found.append(Example(rule, number, block[6], expected, given))
    return found


def image(reference: Reference, _place: Place, _platform: str) -> Image:
    architecture = "arm64" if reference.repository.endswith("-for-arm64") else "amd64"
    return Image(digest_of(str(reference).encode()), ImageConfig(architecture, "linux"))


def found_in(example: Example, root: Path) -> list[tuple[str, int | None, str]]:
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\n")
    text = example.text.encode()
    request = BuildRequest(context=".", build_args=example.build_args)
    stages = stages_of(parse(text), text)
    found = []
    linter = Linter(
        stages,
        options_of(stages, request),
        lambda rule, message, line: found.append((rule.name, line, message)),
    )
    linter.check_file(request, PLATFORM)
    planner = Planner(SimpleNamespace(image=image, layout=None), request, stages, PLATFORM, linter)
    for stage in stages.stages:
        planner.stage(stage)
    ignored = ignore_file(example.rule)
    rules = None if ignored is None else ignorefile.parse(ignored.encode())
    linter.check_plan(planner.plan.vertices.values(), rules)
    for vertex in planner.plan.vertices.values():
        if isinstance(vertex.op, CopyOp):
            copy_target(vertex.op, vertex, str(root), SimpleNamespace(warn=linter))
    return found


@pytest.mark.parametrize("example", examples(), ids=str)
def test_example(example: Example, tmp_path: Path) -> None:
    expected = [] if example.expected is None else [(example.rule, *example.expected)]
    assert found_in(example, tmp_path) == expected


@pytest.mark.parametrize("example", [e for e in examples() if e.expected], ids=str)
@pytest.mark.parametrize("where", ["file", "build argument", "instruction", "another rule"])
def test_a_rule_can_be_skipped(example: Example, where: str, tmp_path: Path) -> None:
    """By directive, build argument and comment above; but an experimental rule is off anyway."""
    assert example.expected is not None
    line, message = example.expected
    other = next(name for name in RULES if name != example.rule)
    skipping = f"check=skip={other if where == 'another rule' else example.rule}"
    has_directive = example.text.startswith("# check=")
    is_experimental = RULES[example.rule].experimental
    if where == "build argument":
        given = (*example.build_args, ("BUILDKIT_DOCKERFILE_CHECK", skipping[6:]))
        changed = replace(example, build_args=given)
    elif where == "instruction":
        lines = example.text.splitlines(keepends=True)
        at = instruction_at(example.text, line)
        if at is None:
            return  # no comment stands above a directive
        changed = replace(
            example, text="".join([*lines[: at - 1], f"# {skipping}\n", *lines[at - 1 :]])
        )
    elif has_directive:
        return  # the example needs the file's one directive for itself
    else:
        changed = replace(example, text=f"# {skipping}\n{example.text}")
    found = {(rule, text) for rule, _, text in found_in(changed, tmp_path)}
    if is_experimental and where == "instruction":
        assert (example.rule, message) in found
    else:
        assert ((example.rule, message) in found) is (where == "another rule")


def instruction_at(text: str, line: int) -> int | None:
    """Return where the instruction begins that a line is part of, None for a directive's."""
    spans = [node.span for node in parse(text).instructions]
    found = (span.first_line for span in spans if span.first_line <= line <= span.last_line)
    return next(found, None)


@pytest.mark.parametrize("rule", RULES)
def test_a_page_is_whole(rule: str) -> None:
    text = (PAGES / f"{rule}.md").read_text()
    assert RULES[rule].page == f"docs/lint/{rule}.md"
    assert text.startswith(f"# {rule}\n\n")
    kinds = {example.expected is None for example in examples() if example.rule == rule}
    assert kinds == {True, False}


def test_no_page_is_left_over_and_the_index_lists_all() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {"README", *RULES}
    index = (PAGES / "README.md").read_text()
    assert re.findall(r"^\| \[(\w+)\]\(\1\.md\) \|", index, re.M) == list(RULES)
