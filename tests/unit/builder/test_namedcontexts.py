import pytest

from builder.errors import BuildError
from builder.gitref import GitRef
from builder.namedcontexts import NamedContext, parse, parse_all

SHA = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("name", "where", "expected"),
    [
        ("a", "dir", NamedContext("a", "local", "dir")),
        ("a", "../x:y", NamedContext("a", "local", "../x:y")),
        ("a:latest", "/d", NamedContext("a", "local", "/d")),
        ("docker.io/library/a:1", "/d", NamedContext("a:1", "local", "/d")),
        ("a::x86_64", "/d", NamedContext("a::linux/amd64", "local", "/d")),
        ("a", "docker-image://b:2", NamedContext("a", "image", "b:2")),
        ("a", "docker-image://scratch", NamedContext("a", "image", "scratch")),
        ("a", "oci-layout://d", NamedContext("a", "layout", "d")),
        ("a", "oci-layout:///x/d:1.0", NamedContext("a", "layout", "/x/d", tag="1.0")),
        ("a", "oci-layout:///x:1/d", NamedContext("a", "layout", "/x:1/d")),
        ("a", f"oci-layout://d@{SHA}", NamedContext("a", "layout", "d", digest=SHA)),
        (
            "a",
            f"oci-layout://d:1@{SHA}",
            NamedContext("a", "layout", "d", tag="1", digest=SHA),
        ),
        ("a", "https://h/x", NamedContext("a", "http", "https://h/x")),
        (
            "a",
            "https://h/x.git#m:s",
            NamedContext("a", "git", "https://h/x.git#m:s", GitRef("https://h/x.git", "m", "s")),
        ),
        (
            "a",
            "github.com/o/r",
            NamedContext("a", "git", "github.com/o/r", GitRef("https://github.com/o/r")),
        ),
    ],
)
def test_parse(name: str, where: str, expected: NamedContext) -> None:
    assert parse(name, where) == expected


@pytest.mark.parametrize(
    ("name", "where", "message"),
    [
        ("a b", "x", "invalid context name"),
        ("a::nosuch", "x", "invalid context name a::nosuch"),
        ("a", "", "no place"),
        ("a", "docker-image://A", "build context a"),
        ("a", "oci-layout://d@sha256:1", "invalid digest"),
        ("a", "oci-layout://", "no folder"),
        ("a", "target:x://y", None),
        ("a", "ftp://h", "unsupported context source"),
        ("a", "https://h/x.git?nosuch=1", "unexpected query"),
    ],
)
def test_refused(name: str, where: str, message: str | None) -> None:
    if message is None:
        assert parse(name, where).kind == "local"
        return
    with pytest.raises(BuildError, match=message):
        parse(name, where)


def test_find() -> None:
    contexts = parse_all(
        [("a", "1"), ("a", "2"), ("b::linux/amd64", "3"), ("b", "4"), ("c:5", "5")]
    )
    for name, platform, where in [
        ("a", "linux/amd64", "2"),
        ("a:latest", "linux/amd64", "2"),
        ("library/a", "linux/amd64", "2"),
        ("b", "linux/amd64", "3"),
        ("b", "linux/arm64", "4"),
        ("c:5", "linux/amd64", "5"),
    ]:
        found = contexts.find(name, platform)
        assert found is not None
        assert found.where == where
    for name in ("c", "d", "A", "a b", ""):
        assert contexts.find(name, "linux/amd64") is None
    assert parse_all([]).find("a", "linux/amd64") is None
