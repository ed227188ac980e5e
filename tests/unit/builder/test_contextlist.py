"""What `context ls` says: what a build would see, the rule that decides, and who uses it."""

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.contextlist import ContextListing, list_context
from builder.errors import BuildError, ContextError
from builder.request import BuildRequest
from builder.tree import Tree
from grammar import ignorefile
from grammar.errors import GrammarError
from store.root import Store

DOCKERFILE = """\
FROM nowhere/base AS one
ARG D=app
COPY ${D} /app
RUN --mount=type=bind,source=docs,target=/d ls /d
FROM scratch
COPY *.md node_modules/x /
ADD --exclude=*.log link /x/
COPY --parents ./app/*/*.log /p/
COPY --from=one / /
"""
FILES = (
    *("app/main", "app/sub/x.log", "app/sub/keep.log", "docs/a.md", "node_modules/x/big"),
    *("node_modules/y", "un used"),
)
IGNORED = "# c\nnode_modules\n*.log\n**/*.log\n!**/keep.log\nnothing\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("store") / "root") as opened:
        yield opened


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}\n")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("app")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / ".dockerignore").write_text(IGNORED)
    return folder


def lines(listing: ContextListing) -> dict[str, tuple[str, ...]]:
    """Return what is said of each path: in or out, the rule, the lines that use it."""
    return {
        row.path + "/" * (row.kind == "dir"): (
            "in" if row.is_included else "out",
            str(row.rule or ""),
            *(str(use.line) for use in row.uses),
        )
        for row in listing.files
    }


def test_each_file_with_its_rule_and_its_uses(store: Store, context: Path) -> None:
    found = list_context(store, BuildRequest(context=str(context)))
    assert lines(found) == {
        ".dockerignore": ("in", ""),
        "Dockerfile": ("in", ""),
        "app/main": ("in", "", "3", "7"),
        "app/sub/keep.log": ("in", ".dockerignore:5 !**/keep.log", "3", "7", "8"),
        "app/sub/x.log": ("out", ".dockerignore:4 **/*.log"),
        "docs/a.md": ("in", "", "4"),
        "empty/": ("in", ""),
        "link": ("in", "", "7"),
        "node_modules/": ("out", ".dockerignore:2 node_modules"),
        "un used": ("in", ""),
    }
    (whole,) = (row for row in found.files if row.path == "node_modules")
    sizes = [len(name) + 1 for name in FILES if name.startswith("node_modules")]
    assert (whole.files, whole.size_bytes) == (2, sum(sizes))
    (problem,) = found.problems
    assert str(problem) == 'Dockerfile:6: COPY failed: "/node_modules/x": not found'
    assert isinstance(problem, BuildError)
    assert problem.hint == ".dockerignore hides it, line 2: node_modules"


def test_with_a_target_only_what_it_needs_counts(store: Store, context: Path) -> None:
    request = BuildRequest(context=str(context), target="one", build_args=(("D", "docs"),))
    found = lines(list_context(store, request))
    assert found["app/main"] == ("in", "")
    assert found["docs/a.md"] == ("in", "", "3", "4")


def test_the_ignore_file_of_a_dockerfile_elsewhere(store: Store, context: Path) -> None:
    other = context.parent / "other"
    other.write_text("FROM scratch\nCOPY . /\n")
    other.with_name("other.dockerignore").write_text("**\n!docs\n")
    request = BuildRequest(context=str(context), dockerfile=str(other))
    found = lines(list_context(store, request))
    assert found["docs/a.md"] == ("in", f"{other}.dockerignore:2 !docs", "2")
    assert found["app/"] == ("out", f"{other}.dockerignore:1 **")


def test_an_archive_has_no_ignore_rules(store: Store, context: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add(context, arcname=".")
    data.seek(0)
    request = BuildRequest(context="-", context_stream=data)
    found = lines(list_context(store, request))
    assert found["node_modules/x/big"] == ("in", "", "6")


def test_errors_are_those_of_a_build(store: Store, context: Path) -> None:
    request = BuildRequest(context=str(context))
    with pytest.raises(ContextError, match="no such directory"):
        list_context(store, replace(request, context=str(context / "none")))
    with pytest.raises(ContextError, match="read Dockerfile none: no such file"):
        list_context(store, replace(request, dockerfile="none"))
    (context / ".dockerignore").write_text("ok\na[\n")
    with pytest.raises(BuildError, match=r'dockerignore:2: bad pattern "a\["'):
        list_context(store, request)
    (context / ".dockerignore").unlink()
    (context / "Dockerfile").write_text("FROM scratch\nCOPPY . /\n")
    with pytest.raises(GrammarError, match="COPPY"):
        list_context(store, request)


def test_names_may_be_any_bytes(store: Store, context: Path) -> None:
    name = os.fsdecode(b"docs/\xff\n.md")
    (context / name).write_text("")
    assert lines(list_context(store, BuildRequest(context=str(context))))[name][0] == "in"


NAMES = st.sampled_from(["a", "b", "c", "a/b", "a/c", "a/b/c", "b/a/c", "c/a", "c/b/a/b"])
PARTS = st.sampled_from(["a", "b", "*", "**", "c", "?"])
PATTERNS = st.builds(
    lambda negated, parts: "!" * negated + "/".join(parts),
    st.booleans(),
    st.lists(PARTS, min_size=1, max_size=3),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.sets(NAMES), st.lists(PATTERNS, max_size=4))
def test_what_is_in_is_what_a_copy_takes(
    store: Store,
    tmp_path_factory: pytest.TempPathFactory,
    names: set[str],
    patterns: list[str],
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (folder / ".dockerignore").write_text("\n".join(patterns))
    for name in names:
        if not any(other.startswith(f"{name}/") for other in names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("")
    found = list_context(store, BuildRequest(context=str(folder))).files
    rules = ignorefile.parse("\n".join(patterns))
    with Tree(os.open(folder, os.O_RDONLY), rules) as tree:
        entries = tree.select(".").matches[0].entries
    taken = {entry.path for entry in entries if entry.kind == "file"}
    assert {row.path for row in found if row.is_included and row.kind == "file"} == taken
    assert {row.path for row in found if row.uses and row.kind == "file"} == taken
    everything = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    left_out = [row.path for row in found if not row.is_included]
    for path in everything - taken:
        above = [top for top in left_out if path == top or path.startswith(f"{top}/")]
        assert len(above) == 1, f"{path} is told of once"
    assert not any(path == top or path.startswith(f"{top}/") for top in left_out for path in taken)
