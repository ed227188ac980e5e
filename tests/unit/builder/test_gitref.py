import pytest

from builder.gitref import (
    GitRef,
    InvalidGitAddress,
    parse,
    parse_context,
    without_credentials,
    without_password,
)

H = "https://example.com/foo"
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://example.com/", None),
        (H, None),
        (f"{H}.git", GitRef(f"{H}.git")),
        (f"{H}.git#deadbeef", GitRef(f"{H}.git", "deadbeef")),
        (f"{H}.git#release/1.2", GitRef(f"{H}.git", "release/1.2")),
        (f"{H}.git#v1:sub/dir", GitRef(f"{H}.git", "v1", "sub/dir")),
        (f"{H}.git#:sub", GitRef(f"{H}.git", "", "sub")),
        (f"{H}.git#a%20b", GitRef(f"{H}.git", "a b")),
        (f"{H}.git/", None),
        (f"{H}.git.bar", None),
        (f"{H}.git:#branch", None),
        ("HTTP://example.com/foo.git", GitRef("http://example.com/foo.git")),
        ("git://example.com/foo", GitRef("git://example.com/foo")),
        ("ssh://git@example.com:22/foo#x", GitRef("ssh://git@example.com:22/foo", "x")),
        ("git@example.com:a/b", GitRef("git@example.com:a/b")),
        ("git@example.com:a/b.git#v1:d", GitRef("git@example.com:a/b.git", "v1", "d")),
        ("git@example.com:a?tag=1#:d", GitRef("git@example.com:a", "refs/tags/1", "d")),
        ("user@h:r", GitRef("user@h:r")),
        ("@h:r", None),
        ("git@-oProxyCommand=x:r", None),
        ("h:r", None),
        ("file:///x.git", None),
        ("./x.git", None),
        ("../x.git", None),
        ("./git@h:r", None),
        ("x.git", None),
        ("github.com/a/b", None),
        ("https://u:p@example.com/foo.git", GitRef("https://u:p@example.com/foo.git")),
        (f"{H}.git?ref=v1&subdir=/s", GitRef(f"{H}.git", "v1", "/s")),
        (f"{H}.git?ref=v1#v1", GitRef(f"{H}.git", "v1")),
        (f"{H}.git?branch=b", GitRef(f"{H}.git", "refs/heads/b")),
        (f"{H}.git?tag=refs/tags/t", GitRef(f"{H}.git", "refs/tags/t")),
        (f"{H}.git?checksum={SHA}", GitRef(f"{H}.git", SHA, checksum=SHA)),
        (f"{H}.git?commit=01234#main", GitRef(f"{H}.git", "main", checksum="01234")),
        (f"{H}.git?keep-git-dir", GitRef(f"{H}.git", keep_git_dir=True)),
        (f"{H}.git?submodules=false", GitRef(f"{H}.git", submodules=False)),
        (f"{H}.git?mtime=commit", GitRef(f"{H}.git", commit_time=True)),
        (f"{H}.git?mtime=checkout&fetch-by-commit=1", GitRef(f"{H}.git")),
    ],
)
def test_parse(address: str, expected: GitRef | None) -> None:
    assert parse(address) == expected


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("?tag=a&branch=b", "branch conflicts with tag"),
        ("?ref=a#b", 'ref conflicts: "b" vs "a"'),
        ("?tag=a#a", 'ref conflicts: "a" vs "refs/tags/a"'),
        ("?subdir=a#x:b", "subdir conflicts"),
        ("?ref=a&ref=a", "several values"),
        ("?ref=", "no value"),
        ("?other=1", 'unexpected query "other"'),
        ("?submodules=maybe", "invalid submodules"),
        ("?mtime=now", "invalid mtime"),
        ("?commit=1&checksum=2", "conflicts"),
        ("#--upload-pack=x", "begins with a dash"),
        ("?checksum=-x", "begins with a dash"),
    ],
)
def test_contradictions(rest: str, message: str) -> None:
    with pytest.raises(InvalidGitAddress, match=message):
        parse(f"{H}.git{rest}")


def test_a_context_may_leave_out_githubs_scheme() -> None:
    assert parse_context("github.com/a/b#x") == GitRef("https://github.com/a/b", "x")
    assert parse_context("example.com/a/b") is None
    assert parse_context("./github.com/a") is None


def test_a_password_is_not_shown() -> None:
    assert without_password("https://u:p@h/x.git") == "https://u:xxxxx@h/x.git"
    assert without_password("git@h:x/y@z") == "git@h:x/y@z"
    assert without_credentials("https://u:p@h/x.git") == "https://h/x.git"
    assert without_credentials("git@h:x/y@z") == "git@h:x/y@z"
