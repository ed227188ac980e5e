import pytest

from store import platforms
from store.oci import Platform


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/X86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("amd64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("i386", "linux/386"),
        ("linux/i686", "linux/386"),
        ("s390x", "linux/s390x"),
        ("linux/unheardof", "linux/unheardof"),
        ("windows(10.0.17763)/amd64", "windows/amd64"),
        ("macos/arm64", "darwin/arm64"),
    ],
)
def test_parse(text: str, expected: str) -> None:
    assert str(platforms.parse(text)) == expected


def test_a_system_alone_is_this_machines_architecture() -> None:
    own = platforms.host()
    assert platforms.parse("linux") == Platform("linux", own.architecture, own.variant)


def test_the_host_in_its_own_words() -> None:
    assert platforms.parse(str(platforms.host())) == platforms.host()


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "unheardof", "linux/am d64", "x;y"])
def test_no_platforms(text: str) -> None:
    with pytest.raises(ValueError, match="invalid platform"):
        platforms.parse(text)
