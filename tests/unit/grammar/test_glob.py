from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammar.errors import PatternError
from grammar.glob import has_wildcard, match

# From the examples of Go's path/filepath.Match.
CASES = [
    ("abc", "abc", True),
    ("*", "abc", True),
    ("*c", "abc", True),
    ("a*", "a", True),
    ("a*", "abc", True),
    ("a*", "ab/c", False),
    ("a*/b", "abc/b", True),
    ("a*/b", "a/c/b", False),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
    ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True),
    ("ab[b-d]", "abc", True),
    ("ab[e-g]", "abc", False),
    ("ab[^c]", "abc", False),
    ("ab[^e-g]", "abc", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "ab", False),
    ("a?b", "a☺b", True),
    ("a[^a]b", "a☺b", True),
    ("a???b", "a☺b", False),
    ("[a-ζ]*", "δ", True),
    ("*[a-ζ]", "A", False),
    ("a?b", "a/b", False),
    ("a*b", "a/b", False),
    ("[\\]a]", "]", True),
    ("[\\-]", "-", True),
    ("[x\\-]", "x", True),
    ("[x\\-]", "z", False),
    ("[\\-x]", "a", False),
    ("[c-a]", "b", False),
    ("[^c-a]", "b", True),
    ("[[]", "[", True),
    ("*x", "xxx", True),
    ("a.b", "axb", False),
    ("", "", True),
    ("", "a", False),
    ("**", "a/b", False),
    ("a\nb", "a\nb", True),
    ("?", "\n", True),
]

BAD = ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[a\\"]


@pytest.mark.parametrize(("pattern", "name", "matches"), CASES)
def test_match(pattern: str, name: str, matches: bool) -> None:
    assert match(pattern, name) is matches


@pytest.mark.parametrize("pattern", BAD)
def test_bad_pattern(pattern: str) -> None:
    with pytest.raises(PatternError, match="bad pattern"):
        match(pattern, "a")


@pytest.mark.parametrize(
    ("pattern", "wild"),
    [("a", False), ("a*", True), ("?", True), ("[a]", True), ("\\*", False), ("\\\\*", True)],
)
def test_has_wildcard(pattern: str, wild: bool) -> None:
    assert has_wildcard(pattern) is wild


def naive(pattern: str, name: str) -> bool:
    """Match by trying everything; no classes."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(naive(pattern[1:], name[at:]) for at in ends(name))
    if pattern[0] == "?":
        return name[:1] not in ("", "/") and naive(pattern[1:], name[1:])
    if pattern[0] == "\\":
        pattern = pattern[1:]
    return name[:1] == pattern[0] and naive(pattern[1:], name[1:])


def ends(name: str) -> Iterator[int]:
    for at in range(len(name) + 1):
        yield at
        if name[at : at + 1] == "/":
            return


@given(
    st.lists(st.sampled_from(["a", "b", "/", ".", "*", "?", "\\*", "\\a"]), max_size=8),
    st.text("ab/.*", max_size=8),
)
def test_match_agrees_with_trying_everything(pattern: list[str], name: str) -> None:
    assert match("".join(pattern), name) is naive("".join(pattern), name)


@given(st.text("ab[]^-\\*?/", max_size=10), st.text("ab/-]", max_size=6))
def test_only_pattern_errors(pattern: str, name: str) -> None:
    try:
        match(pattern, name)
    except PatternError as error:
        assert error.hint is None
