import os
from pathlib import Path

import pytest

from builder.gitcheckout import (
    Commit,
    GitFailure,
    checked,
    choose,
    move_contents,
    remove_git_files,
    set_times,
)
from builder.gitref import GitRef

A, B, C, D = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
LISTING = f"""\
ref: refs/heads/main\tHEAD
{A}\tHEAD
{A}\trefs/heads/main
{B}\trefs/heads/both
{C}\trefs/tags/both
{C}\trefs/tags/heavy
{D}\trefs/tags/heavy^{{}}
{D}\trefs/heads/x/main
"""


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("", Commit(A, "refs/heads/main", A)),
        ("main", Commit(A, "refs/heads/main", A)),
        ("both", Commit(B, "refs/heads/both", B)),
        ("refs/tags/both", Commit(C, "refs/tags/both", C)),
        ("tags/both", Commit(C, "refs/tags/both", C)),
        ("heavy", Commit(C, "refs/tags/heavy", D)),
        ("x/main", Commit(D, "refs/heads/x/main", D)),
    ],
)
def test_choose(ref: str, expected: Commit) -> None:
    assert choose(LISTING, GitRef("https://h/r.git", ref)) == expected


def test_a_server_that_does_not_name_the_default_branch() -> None:
    assert choose(f"{A}\tHEAD\n", GitRef("r")) == Commit(A, "HEAD", A)


@pytest.mark.parametrize(("text", "ref"), [("", ""), (LISTING, "none"), (LISTING, "aaaaaaa")])
def test_choose_nothing(text: str, ref: str) -> None:
    with pytest.raises(GitFailure):
        choose(text, GitRef("https://u:secret@h/r.git", ref))


def test_checksums() -> None:
    tag = Commit(C, "refs/tags/heavy", D)
    for checksum in ("", "c", C, "ddd"):
        assert checked(tag, GitRef("r", checksum=checksum)) == tag
    with pytest.raises(GitFailure, match=f"expected checksum to match e, got {C} or {D}"):
        checked(tag, GitRef("r", checksum="e"))


def test_git_files_go(tmp_path: Path) -> None:
    (tmp_path / "sub/deep").mkdir(parents=True)
    for name in (".git", "sub/.git", "sub/deep/.git", "sub/.gitignore"):
        (tmp_path / name).write_text("gitdir: elsewhere")
    remove_git_files(str(tmp_path))
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == ["sub", "sub/.gitignore", "sub/deep"]


def test_one_time_for_all(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/link").symlink_to("/nowhere")
    set_times(str(tmp_path), 1000)
    for path in (tmp_path, tmp_path / "d", tmp_path / "d/link"):
        assert path.lstat().st_mtime == 1000


def test_a_subdirectory_is_not_left_by_a_link(tmp_path: Path) -> None:
    tree, target, outside = (tmp_path / name for name in ("tree", "target", "outside"))
    for folder in (tree, target, outside, tree / "real"):
        folder.mkdir()
    (outside / "secret").write_text("")
    (tree / "real/f").write_text("")
    os.symlink(outside, tree / "out")
    os.symlink("real", tree / "in")
    for subdir in ("out", "../outside", "none", "real/f"):
        with pytest.raises(GitFailure):
            move_contents(str(tree), subdir, str(target))
    move_contents(str(tree), "in", str(target))
    assert [path.name for path in target.iterdir()] == ["f"]
