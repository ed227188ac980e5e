import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.contenthash import Match
from builder.errors import InstructionError, Place
from builder.ops.copyfiles import CopyRefused, Target, copy_match
from builder.ops.unpackarchive import Archive, unpack_archive
from builder.tree import FileChanged, Tree, digest_file

PLACE = Place("Dockerfile", 2, 2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "dir").mkdir(parents=True)
    (folder / "f").write_text("text")
    (folder / "dir/a").write_text("a")
    os.link(folder / "dir/a", folder / "dir/b")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Target:
    (tmp_path / "root").mkdir()
    return Target(str(tmp_path / "root"))


def selected(source: Path, path: str) -> Match:
    with Tree(os.open(source, os.O_RDONLY | os.O_DIRECTORY)) as tree:
        return tree.select(path).matches[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("TEXT"),
        lambda path: path.write_text("longer than before"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.rename(path.with_name("other")), path.write_text("text")),
    ],
)
def test_what_changed_since_it_was_digested_is_not_copied(
    source: Path, target: Target, change: Callable[[Path], object]
) -> None:
    match = selected(source, "f")
    change(source / "f")
    with pytest.raises(FileChanged):
        copy_match(str(source), match, "/f", target)


def test_a_change_that_leaves_the_stamp_is_noticed_while_it_is_young(
    source: Path, target: Target
) -> None:
    match = selected(source, "f")
    wrong = match.entries[0].__class__(
        **{
            name: getattr(match.entries[0], name)
            for name in match.entries[0].__dataclass_fields__
            if name != "digest"
        },
        digest="sha256:" + "0" * 64,
    )
    with pytest.raises(FileChanged):
        copy_match(str(source), Match(match.path, match.name, (wrong,)), "/f", target)


def test_links_are_kept_and_never_shared_with_the_source(source: Path, target: Target) -> None:
    copy_match(str(source), selected(source, "dir"), "/d", target)
    root = Path(target.root)
    assert os.path.samefile(root / "d/a", root / "d/b")
    assert not os.path.samefile(root / "d/a", source / "dir/a")
    copy_match(str(source), selected(source, "dir/a"), "/e/", target)
    assert (root / "e/a").stat().st_nlink == 1


def test_no_link_of_the_destination_leads_out(source: Path, target: Target, tmp_path: Path) -> None:
    root, outside = Path(target.root), tmp_path / "outside"
    outside.mkdir()
    (root / "abs").symlink_to(outside)
    (root / "up").symlink_to("../../../../../../../.." + str(outside))
    for destination in ("/abs/", "/up/", "/abs/x", "/up/x"):
        copy_match(str(source), selected(source, "f"), destination, target)
    assert list(outside.iterdir()) == []
    assert (root / str(outside).lstrip("/") / "x").read_text() == "text"


def test_a_link_in_a_merged_directory_is_not_followed(
    source: Path, target: Target, tmp_path: Path
) -> None:
    root, outside = Path(target.root), tmp_path / "outside"
    outside.mkdir()
    (source / "tree/dir").mkdir(parents=True)
    (source / "tree/dir/f").write_text("x")
    (root / "d").mkdir()
    (root / "d/dir").symlink_to(outside)
    with pytest.raises(CopyRefused, match="cannot copy to non-directory: /d/dir"):
        copy_match(str(source), selected(source, "tree"), "/d", target)
    assert list(outside.iterdir()) == []


def tar_at(path: Path, name: str = "f") -> Archive:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    return Archive(str(path), path.name, digest_file(str(path))[0])


def test_an_archive_that_is_not_what_was_digested(target: Target, tmp_path: Path) -> None:
    archive = tar_at(tmp_path / "a.tar")
    unpack_archive(archive, "/d", target, PLACE)
    assert (Path(target.root) / "d/f").read_text() == "x"
    tar_at(tmp_path / "a.tar", "g")
    with pytest.raises(FileChanged):
        unpack_archive(archive, "/d", target, PLACE)


@pytest.mark.parametrize("name", ["../out", "/../out", "a/../../out"])
def test_an_archive_stays_in_its_destination(target: Target, tmp_path: Path, name: str) -> None:
    """The destination is the root that names are relative to, as it is for docker."""
    unpack_archive(tar_at(tmp_path / "a.tar", name), "/d", target, PLACE)
    assert not (Path(target.root) / "out").exists()
    assert (Path(target.root) / "d/out").read_text() == "x"


def test_a_broken_archive_has_its_place(target: Target, tmp_path: Path) -> None:
    archive = tar_at(tmp_path / "a.tar", "x" * 300)
    with pytest.raises(InstructionError, match=r"Dockerfile:2: ADD a.tar: .*longer than 255"):
        unpack_archive(archive, "/d", target, PLACE)
