import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammar.errors import PatternError
from grammar.ignorefile import PatternList, parse

CASES = [
    # exact: from the root only, and all that lies below
    ("a", "a", True),
    ("a", "a/b/c", True),
    ("a", "b/a", False),
    ("a", "ab", False),
    ("a/b", "a", False),
    ("/a", "a", True),
    ("a/", "a/b", True),
    ("./a//b/../c", "a/c", True),
    ("../a", "a", False),
    ("a b", "a b", True),
    # one path component
    ("*", "a/b", True),
    ("*.md", "a.md", True),
    ("*.md", "d/a.md", False),
    ("*/x", "d/x", True),
    ("*/x", "x", False),
    ("a?c", "abc", True),
    ("a?c", "a/c", False),
    ("a.c", "abc", False),
    ("[ab]c", "bc", True),
    ("[^ab]c", "bc", False),
    ("\\*", "a", False),
    ("\\*", "*", True),
    # any number of components
    ("**", "a/b", True),
    ("**/x", "x", True),
    ("**/x", "a/b/x", True),
    ("**/x", "a/x/b", True),
    ("**/x", "ax", False),
    ("**/*.go", "a/b.go", True),
    ("**.go", "a.go", True),
    ("**.go", "d/a.go", True),
    ("a/**", "a", False),
    ("a/**", "a/b/c", True),
    ("a/**/b", "a/b", True),
    ("a/**/b", "a/x/y/b", True),
    ("a/**/b", "a/xb", False),
    ("a**", "ab/c", True),
    ("**/a/**", "x/a/y", True),
    ("**/a/**", "a", False),
    ("**/**/a", "x/a", True),
    ("\\**", "*a", True),
    ("\\**", "aa", False),
    # the root is never left out
    ("*", ".", False),
    ("**", "", False),
]


@pytest.mark.parametrize(("pattern", "path", "excluded"), CASES)
def test_one_pattern(pattern: str, path: str, excluded: bool) -> None:
    assert PatternList([pattern]).excludes(path) is excluded


def test_last_match_wins() -> None:
    rules = parse(b"*.md\n!README*.md\nREADME-secret.md\n")
    assert rules.excludes("x.md")
    assert not rules.excludes("README.md")
    assert rules.excludes("README-secret.md")


def test_syntax_of_the_file() -> None:
    rules = parse(b"\xef\xbb\xbf# comment\n\n  a  \r\n #b\n! /c/ \n!\td\n\\#e\n")
    assert rules.patterns == ("a", "#b", "!c", "!d", "\\#e")
    assert rules.excludes("#b")
    assert rules.excludes("#e")


def test_bytes_that_are_no_utf8() -> None:
    assert parse(b"a\xff\n").excludes(b"a\xff".decode("utf-8", "surrogateescape"))


def test_deciding_rule() -> None:
    rules = parse(b"# c\na\n!a/b\n")
    assert rules.deciding_rule("a/x") == (2, "a")
    assert rules.deciding_rule("a/b/c") == (3, "!a/b")
    assert rules.deciding_rule("c") is None


@pytest.mark.parametrize(("text", "line"), [(b"a\n!\n", 2), (b"\n# c\n[a\n", 3), (b"!  \n", 1)])
def test_bad_pattern(text: bytes, line: int) -> None:
    with pytest.raises(PatternError) as caught:
        parse(text)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("patterns", "directory", "expected"),
    [
        (["a"], "a", False),
        (["*", "!a/b"], "a", True),
        (["*", "!a/b"], "b", False),
        (["*", "!**/x"], "b/c", True),
        (["*", "!a*/x"], "ab", True),
        (["*", "!a*/x"], "b", False),
        (["*", "!a"], "a/b", True),
        (["*", "!a/b/c"], "a/x", False),
        (["*", "!a"], ".", True),
        (["*"], ".", False),
    ],
)
def test_may_reinclude_below(patterns: list[str], directory: str, expected: bool) -> None:
    assert PatternList(patterns).may_reinclude_below(directory) is expected


# --- a second opinion, by trying everything


def naive_match(pattern: str, path: str) -> bool:
    if not pattern:
        return not path
    if pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/")
        if not rest:
            return True
        starts = [0, *(at + 1 for at, char in enumerate(path) if char == "/")]
        return any(naive_match(rest, path[at:]) for at in starts)
    if pattern[0] == "*":
        component = path.partition("/")[0]
        return any(naive_match(pattern[1:], path[at:]) for at in range(len(component) + 1))
    if pattern[0] == "?":
        return path[:1] not in ("", "/") and naive_match(pattern[1:], path[1:])
    return path[:1] == pattern[0] and naive_match(pattern[1:], path[1:])


def naive_excludes(patterns: list[str], path: str) -> bool:
    parts = path.split("/")
    excluded = False
    for pattern in patterns:
        text = pattern.removeprefix("!")
        parents = ("/".join(parts[: n + 1]) for n in range(len(parts)))
        if any(naive_match(text, parent) for parent in parents):
            excluded = not pattern.startswith("!")
    return excluded


component = st.sampled_from(["a", "b", "ab", "*", "?", "a*", "*b", "**", "?b"])
pattern = st.builds(
    lambda sign, parts: sign + "/".join(parts),
    st.sampled_from(["", "", "!"]),
    st.lists(component, min_size=1, max_size=3),
)
path = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(pattern, max_size=4), path)
def test_agrees_with_trying_everything(patterns: list[str], path: str) -> None:
    assert PatternList(patterns).excludes(path) is naive_excludes(patterns, path)


@given(st.lists(pattern, max_size=4), path)
def test_pruning_loses_nothing(patterns: list[str], path: str) -> None:
    rules = PatternList(patterns)
    parts = path.split("/")
    for size in range(1, len(parts)):
        parent = "/".join(parts[:size])
        if rules.excludes(parent) and not rules.excludes(path):
            assert rules.may_reinclude_below(parent)


@given(st.text("ab/*?!.[]^-\\# \n\u00a0", max_size=20), st.text("ab/.", max_size=8))
def test_only_pattern_errors(text: str, path: str) -> None:
    try:
        rules = parse(text.encode())
    except PatternError as error:
        assert error.line is not None
        return
    rule = rules.deciding_rule(path)
    assert rules.excludes(path) is (rule is not None and not rule[1].startswith("!"))
    rules.may_reinclude_below(path or ".")
