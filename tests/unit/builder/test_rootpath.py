import os
from pathlib import Path

import pytest

from builder.rootpath import make_dirs, resolve


@pytest.mark.parametrize(
    ("links", "path", "expected"),
    [
        ({}, "a/b", "a/b"),
        ({}, "/../../a", "a"),
        ({}, "", ""),
        ({"l": "/etc"}, "l/passwd", "etc/passwd"),
        ({"l": "../../../etc"}, "l/passwd", "etc/passwd"),
        ({"a": "b", "b": "c"}, "a", "c"),
        ({"a": "b/../c"}, "a/x", "c/x"),
        ({"l": "missing/dir"}, "l/f", "missing/dir/f"),
    ],
)
def test_links_are_followed_inside_the_root(
    tmp_path: Path, links: dict[str, str], path: str, expected: str
) -> None:
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    assert resolve(str(tmp_path), path) == expected


def test_a_loop_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        resolve(str(tmp_path), "a")


def test_make_dirs_goes_through_links_and_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("/real")
    owner = os.getuid(), os.getgid()
    assert make_dirs(str(tmp_path), "/link/x/y", 0o751, owner) == "real/x/y"
    assert (tmp_path / "real").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "real/x/y").stat().st_mode & 0o7777 == 0o751


def test_make_dirs_names_the_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError) as caught:
        make_dirs(str(tmp_path), "file/x", 0o755, (os.getuid(), os.getgid()))
    assert caught.value.filename == "/file"
