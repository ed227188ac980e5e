import pytest

from builder.ops.remote import name_of


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h", "__unnamed__"),
        ("http://h/", "__unnamed__"),
        ("http://h/f", "f"),
        ("http://h/d/", "d"),
        ("http://h/a/f.txt?q=1#x", "f.txt"),
        ("http://h/a%20b", "a b"),
        ("http://h/a%2Fb", "b"),
        ("http://h/..", "__unnamed__"),
        ("http://h/%2e%2e", "__unnamed__"),
        ("http://h/a%00b", "__unnamed__"),
    ],
)
def test_name_of(url: str, name: str) -> None:
    assert name_of(url) == name
