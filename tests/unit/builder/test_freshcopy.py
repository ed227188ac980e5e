"""A tree that is made while its layer is written is the very layer that the slower way makes."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.contenthash import Match
from builder.ops.copyfiles import Target, copy_match
from builder.ops.freshcopy import filling_of
from builder.ownership import parse_chmod
from builder.tree import FileChanged, Tree
from store.errors import NotStorable
from store.filling import Filling
from store.layerinfo import LayerInfo
from store.root import Store

pytestmark = pytest.mark.kernel


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """A tree with all that is plain: modes, times, links, big files, names of any bytes."""
    top = tmp_path / "tree"
    (top / "b/deep/er").mkdir(parents=True)
    (top / "a.d").mkdir(mode=0o1777)
    (top / "a").write_text("a")
    (top / "empty").touch()
    (top / "b/big").write_bytes(os.urandom(300_000))
    (top / "b/deep/er/setuid").write_text("s")
    (top / "b/deep/er/setuid").chmod(0o4755)
    (top / os.fsdecode(b"\xff\xfe")).write_text("no text")
    (top / ("long" * 40)).write_text("long")
    (top / "link").symlink_to("/nowhere/" + "far" * 40)
    os.link(top / "b/big", top / "b/deep/same")
    os.link(top / "a", top / "zzz")
    os.chown(top / "b", 12, 345)
    with open(top / "sparse", "wb") as file:
        file.truncate(1 << 20)
        file.seek(500_000)
        file.write(b"x")
    for number, name in enumerate(sorted(top.rglob("*"), reverse=True)):
        os.utime(
            name, ns=(5, 1_500_000_000_000_000_000 + number * 1_300_000_000), follow_symlinks=False
        )
    with Tree(os.open(top, os.O_RDONLY | os.O_DIRECTORY)) as opened:
        yield opened


def target_at(root: str, chmod: str | None) -> Target:
    return Target(root, None, parse_chmod(chmod) if chmod else None, whole_seconds=True)


def by_filling(store: Store, tree: Tree, match: Match, chmod: str | None) -> LayerInfo:
    with store.snapshots.prepare(()) as active:
        filling = filling_of(tree.root, match, "/in/", target_at(active.upper, chmod))
        assert filling is not None
        return active.commit(filling=filling)


def by_copying(store: Store, tree: Tree, match: Match, chmod: str | None) -> LayerInfo:
    with store.snapshots.prepare(()) as active:
        copy_match(tree.root, match, "/in/", target_at(active.upper, chmod))
        return active.commit()


@pytest.mark.parametrize("chmod", [None, "0640", "u+x,go-rwx"])
def test_the_layer_is_the_same(tmp_path: Path, store: Store, tree: Tree, chmod: str | None) -> None:
    match = tree.select("/").matches[0]
    made = by_filling(store, tree, match, chmod)
    with Store.open(tmp_path / "other") as other:
        copied = by_copying(other, tree, match, chmod)
        assert (made.diff_id, made.files, made.content_bytes) == (
            copied.diff_id,
            copied.files,
            copied.content_bytes,
        )
        here, there = (Path(s.root, s.layers.lower_path([made.diff_id])[0]) for s in (store, other))
        assert listing(here) == listing(there)


def listing(top: Path) -> list[tuple[object, ...]]:
    """Return what is on the disk, links by the first name of their group."""
    rows: list[tuple[object, ...]] = []
    groups: dict[int, str] = {}
    for path in sorted(top.rglob("*"), key=os.fsencode):
        status = path.lstat()
        name = str(path.relative_to(top))
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        group = groups.setdefault(status.st_ino, name)
        rows.append((name, status.st_mode, status.st_uid, status.st_mtime_ns, data, group))
    return rows


def test_a_file_that_changed_is_noticed(store: Store, tree: Tree, tmp_path: Path) -> None:
    match = tree.select("/").matches[0]
    (tmp_path / "tree/empty").write_text("no more")
    with pytest.raises(FileChanged):
        by_filling(store, tree, match, None)
    assert list(store.layers.iter()) == []


def test_a_name_that_means_deletion_is_refused(store: Store, tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "tree/b/.wh.x").touch()
    with pytest.raises(NotStorable, match=r"/in/b/\.wh\.x: a name beginning \.wh\."):
        by_filling(store, tree, tree.select("/").matches[0], None)


def filling_in(tree: Tree, root: Path, destination: str = "/in") -> Filling | None:
    return filling_of(
        tree.root, tree.select("/").matches[0], destination, target_at(str(root), None)
    )


def test_what_is_not_plain_goes_the_other_way(tree: Tree, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "there").mkdir(parents=True)
    assert filling_in(tree, root, "/there") is None
    assert filling_in(tree, root, "/") is None
    os.mkfifo(tmp_path / "tree/fifo")
    assert filling_in(tree, root) is None
    os.unlink(tmp_path / "tree/fifo")
    os.setxattr(tmp_path / "tree/a", "user.x", b"1")
    assert filling_in(tree, root) is None
    assert not (root / "in").exists()
    os.removexattr(tmp_path / "tree/a", "user.x")
    assert filling_in(tree, root) is not None
