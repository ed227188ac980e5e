"""Users and groups from a root file system's own files."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.launch.accounts import UnknownAccount, look_up

PASSWD = """\
# comment:x:1:1:::
root:x:0:0:root:/root:/bin/sh
broken
odd:x:notanumber:1::/:/bin/sh
app:x:1000:1001:App:/home/app:/bin/sh
app2:x:1000:1002::/other:/bin/sh
1234:x:77:78::/named-by-number:/bin/sh
bare:x:5:6::
"""
GROUP = """\
root:x:0:
app:x:1001:
audio:x:29:app,other
video:x:44:other,app
staff:x:50:root
555:x:556:
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, [0, 50], "/root")),
        ("0", (0, 0, [0, 50], "/root")),
        ("app", (1000, 1001, [29, 44, 1001], "/home/app")),
        ("1000", (1000, 1001, [29, 44, 1001], "/home/app")),
        ("app:audio", (1000, 29, [29], "/home/app")),
        ("app:9", (1000, 9, [9], "/home/app")),
        ("9:9", (9, 9, [9], "/")),
        ("9", (9, 0, [0], "/")),
        (":audio", (0, 29, [29], "/root")),
        ("1234", (77, 78, [78], "/named-by-number")),
        ("app:555", (1000, 556, [556], "/home/app")),
        ("bare", (5, 6, [6], "/")),
    ],
)
def test_look_up(root, user, expected):
    assert look_up(root, user, []) == expected


@pytest.mark.parametrize(
    "user", ["nobody", "app:wheel", "odd", "broken", "2147483648", "0:99999999999", "-1", "\uff11"]
)
def test_unknown(root, user):
    with pytest.raises(UnknownAccount):
        look_up(root, user, [])


def test_additional_groups(root):
    assert look_up(root, "app:9", [7, "video"]) == (1000, 9, [7, 9, 44], "/home/app")


def test_without_files_numbers_work(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    assert look_up(fd, "12:34", []) == (12, 34, [34], "/")
    with pytest.raises(UnknownAccount, match="unable to find user app"):
        look_up(fd, "app", [])
    os.close(fd)


@given(st.binary(max_size=300), st.text(max_size=12))
def test_any_file_is_survived(tmp_path_factory, content, user):
    base = tmp_path_factory.mktemp("any")
    (base / "etc").mkdir()
    (base / "etc/passwd").write_bytes(content)
    (base / "etc/group").write_bytes(content)
    fd = os.open(base, os.O_RDONLY)
    try:
        uid, gid, groups, home = look_up(fd, user, [])
    except UnknownAccount:
        return
    finally:
        os.close(fd)
    assert uid >= 0 and gid >= 0 and gid in groups and home
