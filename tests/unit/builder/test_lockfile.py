"""The text of a lock: always the same, read back as it was, and refused where it makes no sense."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.lockfile import (
    Lock,
    LockedCommit,
    LockedFile,
    LockedImage,
    changes,
    from_text,
    to_text,
)
from store.digest import Digest, digest_of

A, B = digest_of(b"a"), digest_of(b"b")
COMMIT, OTHER = "1" * 40, "2" * 40
IMAGE = LockedImage("docker.io/library/debian:12", "linux/amd64", A, B)
LOCAL = LockedImage("docker.io/library/base:1", "linux/arm/v7", A)
LAYOUT = LockedImage("oci-layout://some/folder:1", "linux/amd64", A)
FILE = LockedFile("https://example.org/a b.tgz", A)
GIT = LockedCommit("https://example.org/r.git", "", COMMIT)
ENTRIES = (IMAGE, LOCAL, LAYOUT, FILE, GIT)

TEXT = f"""\
version = 1

[[image]]
name = "docker.io/library/base:1"
platform = "linux/arm/v7"
config = "{A}"

[[image]]
name = "docker.io/library/debian:12"
platform = "linux/amd64"
config = "{A}"
digest = "{B}"

[[image]]
name = "oci-layout://some/folder:1"
platform = "linux/amd64"
config = "{A}"

[[file]]
url = "https://example.org/a b.tgz"
digest = "{A}"

[[git]]
remote = "https://example.org/r.git"
ref = ""
commit = "{COMMIT}"
"""


def test_text_is_sorted_and_says_all() -> None:
    for entries in (ENTRIES, ENTRIES[::-1]):
        text = to_text(Lock.of(entries))
        assert "".join(line for line in text.splitlines(True) if line[0] != "#") == TEXT
    assert from_text(text.encode(), "lock") == Lock.of(ENTRIES)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_address_comes_back(address: str) -> None:
    lock = Lock.of([LockedFile(address, A), LockedCommit(address, address, COMMIT)])
    text = to_text(lock)
    assert tomllib.loads(text)["file"][0]["url"] == address
    assert from_text(text.encode(), "lock") == lock


def test_an_address_that_is_not_utf8() -> None:
    lock = Lock.of([LockedFile("http://a/\udcff", A)])
    assert from_text(to_text(lock).encode("utf-8", "surrogateescape"), "lock") == lock


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no version"),
        ("version = true\n", "it has no version"),
        ("version = 2\n", "version 2 is newer"),
        ("<<<<<<< HEAD\nversion = 1\n", "not valid TOML: Invalid statement (at line 1"),
        ("version = 1\nimage = 3\n", "image 1: no table"),
        ("version = 1\n[[picture]]\n", 'unknown table "picture"'),
        ("version = 1\n[[file]]\nurl = 1\n", "file 1: url is no text"),
        ('version = 1\n[[file]]\nsize = "1"\n', 'file 1: unknown key "size"'),
        ('version = 1\n[[file]]\nurl = "u"\n', 'file 1: invalid digest ""'),
        (TEXT.replace(f'url = "https://example.org/a b.tgz"\ndigest = "{A}', 'url = "u'), "digest"),
        (TEXT.replace(B, B[:-1]), f'image 2: invalid digest "{B[:-1]}"'),
        (TEXT.replace("docker.io/library/base:1", "base:1"), 'image 1: invalid name "base:1"'),
        (TEXT.replace("linux/arm/v7", "arm"), 'image 1: invalid platform "arm"'),
        (TEXT.replace(COMMIT, "main"), 'git 1: invalid commit "main"'),
        (TEXT + TEXT[TEXT.index("[[file]]") :], "file 2: https://example.org/a b.tgz is there"),
        (TEXT + "\xff", "not valid TOML"),
    ],
)
def test_what_is_no_lock(text: str, message: str) -> None:
    with pytest.raises(BuildError) as caught:
        from_text(text.encode("latin-1"), "Dockerfile.lock")
    assert str(caught.value).startswith("Dockerfile.lock: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_what_has_changed() -> None:
    after = Lock.of(
        [
            LockedImage(IMAGE.name, IMAGE.platform, B, Digest(f"sha256:{'c' * 64}")),
            LOCAL,
            FILE,
            LockedCommit(GIT.remote, "", OTHER),
            LockedCommit(GIT.remote, "v1", COMMIT),
        ]
    )
    assert changes(Lock.of(ENTRIES), after) == [
        "~ https://example.org/r.git: 111111111111 → 222222222222",
        "+ https://example.org/r.git#v1: 111111111111",
        f"~ debian:12 (linux/amd64): {B[:19]} → sha256:cccccccccccc",
        f"- oci-layout://some/folder:1 (linux/amd64): {A[:19]}",
    ]
    assert changes(after, after) == []
