import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.contenthash import Selection
from builder.looked import Stamp
from builder.tree import PathNotFound, Tree
from grammar import ignorefile


def open_tree(path: Path, ignore: str | None = None) -> Tree:
    rules = None if ignore is None else ignorefile.parse(ignore.encode())
    return Tree(os.open(path, os.O_RDONLY | os.O_DIRECTORY), rules)


def paths(selection: Selection) -> list[str]:
    return [
        os.path.join(match.path, entry.path).rstrip("/")
        for match in selection.matches
        for entry in match.entries
    ]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.txt", "src/app.py", "src/lib/x.py", "build/out.o", "build/keep"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


@pytest.fixture
def tree(context: Path) -> Iterator[Tree]:
    with open_tree(context) as opened:
        yield opened


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.txt", ["a.txt"]),
        ("/a.txt", ["a.txt"]),
        ("../../a.txt", ["a.txt"]),
        ("*.txt", ["a.txt", "b.txt"]),
        ("src", ["src", "src/app.py", "src/lib", "src/lib/x.py"]),
        ("src/*.py", ["src/app.py"]),
        ("*/lib", ["src/lib", "src/lib/x.py"]),
        ("nothing*", []),
    ],
)
def test_select(tree: Tree, pattern: str, expected: list[str]) -> None:
    assert paths(tree.select(pattern)) == expected


@pytest.mark.parametrize(
    ("pattern", "include", "expected"),
    [
        ("/", "src/lib/x.py", ["", "src", "src/lib", "src/lib/x.py"]),
        ("/", "src/lib", ["", "src", "src/lib", "src/lib/x.py"]),
        ("src", "lib/*", ["src", "src/lib", "src/lib/x.py"]),
        ("/", "*/*.py", ["", "src", "src/app.py"]),
        ("/", "**/x.py", ["", "src", "src/lib", "src/lib/x.py"]),
        ("s*", "lib", ["src", "src/lib", "src/lib/x.py"]),
        ("/", "none/*", [""]),
        ("/", "link/app.py", [""]),
    ],
)
def test_what_is_included_brings_its_directories(
    context: Path, tree: Tree, pattern: str, include: str, expected: list[str]
) -> None:
    (context / "link").symlink_to("src")
    assert paths(tree.select(pattern, include=include)) == expected


@pytest.mark.parametrize(("pattern", "include"), [("/", "none"), ("src", "none"), ("/", "hid")])
def test_what_is_included_by_name_has_to_be_there(
    context: Path, pattern: str, include: str
) -> None:
    (context / "hid").write_text("")
    with open_tree(context, "hid") as tree, pytest.raises(PathNotFound):
        tree.select(pattern, include=include)


def test_exclude_wins_over_include(tree: Tree) -> None:
    found = tree.select("/", exclude=("src/lib", "*.txt"), include="**")
    assert paths(found) == ["", "build", "build/keep", "build/out.o", "src", "src/app.py"]


def test_nothing_is_read_where_nothing_can_be_included(context: Path) -> None:
    seen: list[str] = []

    def digester(path: str, name: str, _stamp: Stamp) -> str:
        seen.append(name)
        return ""

    fd = os.open(context, os.O_RDONLY | os.O_DIRECTORY)
    with Tree(fd, digester=digester) as tree:
        tree.select("/", include="src/*.py")
    assert seen == ["src/app.py"]


def test_links_are_followed_up_to_the_first_wildcard(context: Path, tree: Tree) -> None:
    (context / "link").symlink_to("src")
    assert paths(tree.select("link/*.py")) == ["src/app.py"]
    assert paths(tree.select("l*/app.py")) == []
    assert paths(tree.select("l*")) == ["src", "src/app.py", "src/lib", "src/lib/x.py"]


def test_a_persons_own_files_count_as_roots(context: Path) -> None:
    os.chown(context / "a.txt", os.getuid(), os.getgid())
    fd = os.open(context, os.O_RDONLY | os.O_DIRECTORY)
    with Tree(fd, owned_by_root=True) as tree:
        (match,) = tree.select("a.txt").matches
    assert (match.entries[0].uid, match.entries[0].gid) == (0, 0)


def test_a_missing_path_is_an_error(tree: Tree) -> None:
    with pytest.raises(PathNotFound, match=r"src/none\.py"):
        tree.select("src/none.py")


@pytest.mark.parametrize(
    ("ignore", "expected"),
    [
        ("build", ["", "a.txt", "b.txt", "src", "src/app.py", "src/lib", "src/lib/x.py"]),
        (
            "build/*\n!build/keep\nsrc\n*.txt",
            ["", "build", "build/keep"],
        ),
        ("*\n!src/lib", ["", "src", "src/lib", "src/lib/x.py"]),
        ("**/*.py\n*.txt\nbuild", ["", "src", "src/lib"]),
    ],
)
def test_ignore_rules(context: Path, ignore: str, expected: list[str]) -> None:
    with open_tree(context, ignore) as tree:
        assert paths(tree.select(".")) == expected


def test_a_hidden_path_is_not_found_and_its_rule_is_named(context: Path) -> None:
    with open_tree(context, "# comment\n*.txt\n") as tree:
        with pytest.raises(PathNotFound) as caught:
            tree.select("a.txt")
        assert caught.value.rule == "line 2: *.txt"
        assert tree.select("*.txt").matches == ()


def test_a_source_link_is_followed_but_not_out_of_the_tree(context: Path) -> None:
    (context / "in").symlink_to("src")
    (context / "out").symlink_to("/etc/passwd")
    with open_tree(context) as tree:
        assert paths(tree.select("in"))[0] == "src"
        with pytest.raises(PathNotFound):
            tree.select("out")


def digest(context: Path, pattern: str = ".") -> str:
    with open_tree(context) as tree:
        return tree.select(pattern).digest(with_owner=False)


def test_times_do_not_count(context: Path) -> None:
    before = digest(context)
    os.utime(context / "a.txt", (1, 1))
    os.utime(context / "src", (1, 1))
    assert digest(context) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda p: (p / "a.txt").write_text("A.txt"),
        lambda p: (p / "a.txt").chmod(0o600),
        lambda p: (p / "a.txt").rename(p / "c.txt"),
        lambda p: (p / "new").mkdir(),
        lambda p: (p / "src").chmod(0o700),
        lambda p: ((p / "a.txt").unlink(), (p / "a.txt").symlink_to("b.txt")),
        lambda p: os.setxattr(p / "a.txt", "user.x", b"1"),
    ],
)
def test_what_counts(context: Path, change: object) -> None:
    before = digest(context)
    change(context)  # type: ignore[operator]
    assert digest(context) != before


def test_a_swapped_file_of_same_name_size_and_mtime_is_noticed(context: Path) -> None:
    before = digest(context)
    status = (context / "a.txt").stat()
    other = context / "other"
    other.write_text("z.txt")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(context / "a.txt")
    assert digest(context) != before
