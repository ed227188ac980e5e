import pytest

from store.digest import Digest
from store.errors import InvalidReference
from store.reference import Reference

DIGEST = Digest("sha256:" + "a" * 64)


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("a/b", "docker.io/a/b:latest", "a/b:latest"),
        ("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/library/debian:1", "docker.io/library/debian:1", "debian:1"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
        ("ghcr.io/a/b/c:v1.2_3-4", "ghcr.io/a/b/c:v1.2_3-4", "ghcr.io/a/b/c:v1.2_3-4"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("MyHost/x", "MyHost/x:latest", "MyHost/x:latest"),
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}", f"debian@{DIGEST}"),
        (f"debian:1@{DIGEST}", f"docker.io/library/debian:1@{DIGEST}", f"debian:1@{DIGEST}"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ],
)
def test_parse(text: str, canonical: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == canonical
    assert reference.familiar() == familiar
    assert Reference.parse(canonical) == Reference.parse(familiar) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "a:",
        "a@",
        "a@sha256:12",
        f"a@sha512:{'b' * 128}",
        "-a",
        "a/",
        "/a",
        "a//b",
        "a b",
        "a_-b",
        "a___b",
        "a..b/c",
        "a__b.d/e",
        "Debian",
        "a:b:c",
        "a:" + "x" * 129,
        "a:-x",
        "../x",
        "a/../b",
        "f" * 64,
        "a" * 256,
        "https://example.org/x",
        "a\n",
        "a:b\n",
        "é",
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert "\n" not in str(caught.value)


def test_upper_case_gets_a_hint() -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse("ghcr.io/Owner/Name:V1")
    assert caught.value.hint == "use owner/name"


def test_longest_name() -> None:
    name = "x.io/" + "/".join(["a" * 124, "b" * 125])
    assert len(name) == 255
    assert Reference.parse(name).name == name
    with pytest.raises(InvalidReference):
        Reference.parse(name + "b")


def test_with_tag_and_digest() -> None:
    pinned = Reference.parse("debian:12").with_digest(DIGEST)
    assert str(pinned) == f"docker.io/library/debian:12@{DIGEST}"
    assert pinned.with_tag("13") == Reference.parse("debian:13")
    with pytest.raises(InvalidReference):
        pinned.with_tag("a/b")


@pytest.mark.parametrize(
    "text", [f"debian@{DIGEST}", f"debian:12@{DIGEST}", "sha256:abc", "sha256"]
)
def test_names_that_cannot_be_given(text: str) -> None:
    Reference.parse(text)
    with pytest.raises(InvalidReference):
        Reference.parse_new(text)


def test_names_that_can_be_given() -> None:
    for text in ("debian", "x/sha256:abc", "localhost:5000/sha256:abc"):
        assert Reference.parse_new(text) == Reference.parse(text)
