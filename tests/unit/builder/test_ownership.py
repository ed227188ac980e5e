from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.ownership import find_owner, parse_chmod


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/:/bin/sh\nweb:x:1000:2000::/:/bin/sh\nhalf:x:1a:5\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\nstaff:x:50:\n")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("text", "ids", "unknown"),
    [
        ("1", (1, 1), None),
        ("1:2", (1, 2), None),
        ("web", (1000, 2000), None),
        ("web:staff", (1000, 50), None),
        ("web:7", (1000, 7), None),
        ("7:staff", (7, 50), None),
        ("nobody", (0, 0), "nobody"),
        ("web:nogroup", (1000, 2000), "nogroup"),
        ("4294967295:1", (0, 1), None),
        ("web:", (1000, 0), None),
        ("7:", (7, 0), None),
        ("root:staff", (0, 50), None),
        ("half", (0, 5), None),
    ],
)
def test_owner(root: str, text: str, ids: tuple[int, int], unknown: str | None) -> None:
    owner = find_owner(text, root)
    assert (owner.ids, owner.unknown) == (ids, unknown)


def test_passwd_may_be_a_link_that_stays_inside(root: str, tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").rename(tmp_path / "accounts")
    (tmp_path / "etc/passwd").symlink_to("/accounts")
    assert find_owner("web", root).uid == 1000


@pytest.mark.parametrize(
    ("text", "mode", "is_dir", "expected"),
    [
        ("755", 0o600, False, 0o755),
        ("04755", 0o600, False, 0o4755),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o600, True, 0o755),
        ("+x", 0o644, False, 0o755),
        ("a-w", 0o666, False, 0o444),
        ("g=u", 0o640, False, 0o660),
        ("u+s,u+t", 0o755, False, 0o5755),
        ("o+t,o+s", 0o755, False, 0o755),
        ("u=rw", 0o4777, False, 0o677),
        ("=", 0o6777, False, 0),
        ("g=u", 0o2742, False, 0o2772),
        ("u+go", 0o021, False, 0o321),
        ("u=go", 0o721, False, 0o121),
        ("=rw,+X", 0o766, False, 0o777),
        ("=rw,+X", 0o666, False, 0o666),
        ("o+r,g+w,a+t,g-s,u+og", 0o2100, False, 0o1724),
        ("a=r,ug=rw,u+x", 0o777, False, 0o764),
        ("go=u-w", 0o670, False, 0o644),
        ("a-t", 0o1755, True, 0o755),
        ("u=rwx,g=rx,o=", 0o777, False, 0o750),
        ("u+x-w", 0o600, False, 0o500),
    ],
)
def test_chmod(text: str, mode: int, is_dir: bool, expected: int) -> None:
    assert oct(parse_chmod(text)(mode, is_dir)) == oct(expected)


@pytest.mark.parametrize("text", ["", "999", "77777", "rwx=", "u=rw,", "z+x", "8"])
def test_bad_chmod(text: str) -> None:
    with pytest.raises(ValueError, match="invalid mode"):
        parse_chmod(text)


@given(st.integers(0, 0o7777), st.integers(0, 0o7777))
def test_an_octal_mode_replaces_all_bits(wanted: int, mode: int) -> None:
    assert parse_chmod(f"{wanted:o}")(mode, False) == wanted
