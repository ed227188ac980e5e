"""Snapshots that are copies: the layer is the one that an overlay would have made."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.restream import Source, stream
from store.root import Store

DAY = 1_600_000_000


def tar_of(*members: tuple[str, bytes, str]) -> io.BytesIO:
    """Return a layer's tar: (name, kind, content or target)."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, kind, text in members:
            member = tarfile.TarInfo(name)
            member.type, member.mtime, member.mode = kind, DAY, 0o755
            data = text.encode() if kind == tarfile.REGTYPE else b""
            member.size = len(data)
            member.linkname = "" if data else text
            archive.addfile(member, io.BytesIO(data))
    target.seek(0)
    return target


BASE = [
    ("d", tarfile.DIRTYPE, ""),
    ("d/kept", tarfile.REGTYPE, "kept"),
    ("d/gone", tarfile.REGTYPE, "gone"),
    ("d/link", tarfile.SYMTYPE, "kept"),
    ("e", tarfile.DIRTYPE, ""),
    ("e/inner", tarfile.REGTYPE, "inner"),
    ("one", tarfile.REGTYPE, "one"),
    ("two", tarfile.LNKTYPE, "one"),
    ("file", tarfile.REGTYPE, "file"),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        store.can_overlay = lambda: False
        yield store


def changed(store: Store, chain, change) -> list[str]:
    """Return the names of the layer that a change makes, as its tar has them."""
    with store.snapshots.prepare(chain) as active:
        assert active.mount.lowers == ()
        change(Path(active.upper))
        info = active.commit()
    target = io.BytesIO()
    path = store.layers.path(info.diff_id)
    for piece in stream(Source(path, "layer")):
        target.write(piece)
    target.seek(0)
    with tarfile.open(fileobj=target) as archive:
        return archive.getnames()


def edit(path: Path, text: str) -> None:
    """Change a file, but neither its size nor its time."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(folder: Path) -> None:
    other = folder.with_name("other")  # made before the old one goes: not of the same inode
    other.mkdir()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    other.rename(folder)
    (folder / "new").write_text("x")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda root: None, []),
        (lambda root: (root / "d/kept").read_text(), []),
        (lambda root: edit(root / "file", "elif"), ["file"]),
        (lambda root: edit(root / "d/kept", "tpek"), ["d", "d/kept"]),
        (lambda root: (root / "d/gone").unlink(), ["d", "d/.wh.gone"]),
        (lambda root: (root / "d/kept").chmod(0o700), ["d", "d/kept"]),
        (lambda root: (root / "e").chmod(0o700), ["e"]),
        (lambda root: os.utime(root / "e", (1, 1)), ["e"]),
        (lambda root: (root / "two").unlink(), [".wh.two"]),
        (lambda root: (root / "new").mkdir(), ["new"]),
        (lambda root: os.rename(root / "file", root / "elif"), ["elif", ".wh.file"]),
        (lambda root: replace(root / "e"), ["e", "e/.wh..wh..opq", "e/new"]),
        (lambda root: os.setxattr(root / "file", "user.x", b"y"), ["file"]),
    ],
)
def test_a_layer_has_what_changed_and_no_more(store: Store, change, names: list[str]) -> None:
    base = store.layers.unpack(tar_of(*BASE))
    assert changed(store, [base], change) == names


def test_an_edit_of_a_link_is_one_of_both_names(store: Store) -> None:
    base = store.layers.unpack(tar_of(*BASE))
    assert changed(store, [base], lambda root: edit(root / "one", "eno")) == ["one", "two"]


def test_a_copy_shows_the_whole_chain(store: Store) -> None:
    base = store.layers.unpack(tar_of(*BASE))
    above = store.layers.unpack(
        tar_of(("d", tarfile.DIRTYPE, ""), ("d/.wh.gone", b"0", ""), ("d/new", b"0", "n"))
    )
    view = store.snapshots.view([base, above])
    (lower,) = view.lowers
    shown = Path(view.base, lower)
    assert sorted(os.listdir(shown / "d")) == ["kept", "link", "new"]
    assert (shown / "one").stat().st_ino == (shown / "two").stat().st_ino
    assert (shown / "d/kept").stat().st_mtime == DAY
    assert (shown / "d/kept").stat().st_ino != next(
        path.stat().st_ino for path in Path(store.root).glob("layers/sha256/*/fs/d/kept")
    )
    assert store.snapshots.view([base, above]) == view
    with store.exclusive_lease():
        assert store.recover() == []
    store.close()
    assert not shown.exists()


def test_a_kept_copy_is_found_again(store: Store) -> None:
    base = store.layers.unpack(tar_of(*BASE))
    with store.snapshots.prepare([base], stubs=True) as active:
        (Path(active.upper) / "new").write_text("x")
        name = active.keep()
    with store.snapshots.reopen(name) as again:
        assert (Path(again.upper) / "new").read_text() == "x"
        assert again.mount.lowers == ()
    (lower,) = store.snapshots.look(name, [base]).lowers
    assert (Path(store.root) / lower / "d/kept").read_text() == "kept"
