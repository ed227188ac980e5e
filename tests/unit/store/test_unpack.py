"""Unpacking: what a tar may and may not do, and that nothing is left of one that is refused."""

import hashlib
import io
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest

from store.contents import Policy
from store.digest import DiffID
from store.errors import BadArchive, Corrupt
from store.layerinfo import BlobRef
from store.root import Store
from store.tarreader import TarReader
from store.tarwriter import END, Header, encode, padding
from store.unpack import Unpacker

KINDS = {"file": b"0", "link": b"1", "symlink": b"2", "char": b"3", "block": b"4"}
KINDS |= {"dir": b"5", "fifo": b"6", "other": b"Z", "multi": b"M"}
MTIME_S = 1_700_000_000


def entry(
    kind: str,
    name: str | bytes,
    data: bytes = b"",
    target: str | bytes = b"",
    *,
    mode: int | None = None,
    xattrs: Iterable[tuple[bytes, bytes]] = (),
    device: tuple[int, int] = (0, 0),
    mtime_s: int = MTIME_S,
) -> bytes:
    """Return the blocks of one entry that belongs to us."""
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    to = target.encode() if isinstance(target, str) else target
    if mode is None:
        mode = 0o755 if kind == "dir" else 0o644
    header = Header(raw, KINDS[kind], mode, 0, 0, len(data), mtime_s, to, *device, tuple(xattrs))
    return encode(header) + data + padding(len(data))


def diff_id(data: bytes) -> DiffID:
    return DiffID("sha256:" + hashlib.sha256(data).hexdigest())


def tree_of(store: Store, diff_id: DiffID) -> Path:
    return Path(store.layers.path(diff_id)) / "fs"


def leftovers(store: Store) -> list[str]:
    root = Path(store.root)
    return [
        str(path.relative_to(root))
        for name in ("tmp", "trash", "layers/sha256", "chains/sha256", "l")
        for path in (root / name).iterdir()
    ]


# -- what is taken ---------------------------------------------------------------------------


def test_a_plain_layer(store: Store) -> None:
    data = (
        entry("dir", "usr/", mode=0o1775)
        + entry("file", "usr/tool", b"#!/bin/sh\n", mode=0o4755)
        + entry("symlink", "usr/alias", target="tool")
        + entry("link", "usr/same", target="usr/tool")
        + entry("fifo", "usr/pipe", mode=0o600)
        + entry("file", b"usr/\xff\xfe", b"", mode=0o200)
        + END
    )
    assert store.layers.unpack([data], expected=diff_id(data)) == diff_id(data)
    tree = tree_of(store, diff_id(data))
    assert (tree / "usr/tool").read_bytes() == b"#!/bin/sh\n"
    assert stat.S_IMODE((tree / "usr/tool").stat().st_mode) == 0o4755
    assert (tree / "usr/tool").stat().st_mtime == MTIME_S
    assert (tree / "usr/tool").stat().st_ino == (tree / "usr/same").stat().st_ino
    assert os.readlink(tree / "usr/alias") == "tool"
    assert (tree / "usr/alias").lstat().st_mtime == MTIME_S
    assert stat.S_ISFIFO((tree / "usr/pipe").stat().st_mode)
    assert stat.S_IMODE((tree / "usr").stat().st_mode) == 0o1775
    assert (tree / "usr").stat().st_mtime == MTIME_S
    assert stat.S_IMODE(tree.stat().st_mode) == 0o755
    assert tree.stat().st_mtime == MTIME_S
    info = store.layers.info(diff_id(data))
    assert (info.size_bytes, info.files, info.content_bytes) == (len(data), 6, 10)
    assert (info.empty, info.shareable, info.blob) == (False, True, None)
    assert b"".join(store.layers.stream_tar(diff_id(data))) == data
    assert list(store.layers.iter()) == [diff_id(data)]
    assert os.listdir(Path(store.root) / "tmp") == []


@pytest.mark.parametrize("tail", [END, END + bytes(9216), END + b"anything at all"])
def test_the_end_is_part_of_the_digest(store: Store, tail: bytes) -> None:
    data = entry("file", "a", b"x" * 513) + tail
    assert store.layers.unpack(io.BytesIO(data)) == diff_id(data)
    assert b"".join(store.layers.stream_tar(diff_id(data))) == data


def test_names_may_begin_with_a_dot(store: Store) -> None:
    data = entry("dir", "./") + entry("dir", "./a") + entry("file", ".//a/./b", b"x") + END
    store.layers.unpack([data])
    assert (tree_of(store, diff_id(data)) / "a/b").read_bytes() == b"x"
    assert store.layers.info(diff_id(data)).shareable


def test_the_roots_own_entry(store: Store) -> None:
    data = entry("dir", "./", mode=0o700, mtime_s=5) + entry("file", "a") + END
    store.layers.unpack([data])
    status = tree_of(store, diff_id(data)).stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o700, 5)


def test_children_may_come_before_their_directory(store: Store) -> None:
    data = entry("file", "d/e/f", b"x") + entry("dir", "d/e", mode=0o700)
    data += entry("dir", "d", mode=0o711) + END
    store.layers.unpack([data])
    tree = tree_of(store, diff_id(data))
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o711
    assert (tree / "d/e").stat().st_mtime == MTIME_S
    assert store.layers.info(diff_id(data)).shareable


REPLACED = {
    "a file by a file": [("file", "x", b"one"), ("file", "x", b"other")],
    "a file by a directory": [("file", "x", b"one"), ("dir", "x")],
    "a directory by a file": [
        ("dir", "x"),
        ("dir", "x/y"),
        ("file", "x/y/z", b"inside"),
        ("file", "x/kept", b"k" * 600),
        ("file", "x", b"other"),
    ],
    "a link's target": [("file", "x", b"one"), ("link", "y", b"", "x"), ("file", "x", b"other")],
    "thrice": [("file", "x", b"1"), ("file", "x", b"2"), ("file", "x", b"3"), ("dir", "x")],
    "directory, file, directory": [
        ("dir", "x"),
        ("file", "x/a", b"first"),
        ("file", "x", b"f"),
        ("dir", "x"),
        ("file", "x/a", b"second"),
    ],
    "a symlink by a directory": [("symlink", "x", b"", "/etc"), ("dir", "x"), ("file", "x/a")],
    "an empty file": [("file", "x"), ("symlink", "x", b"", "y"), ("fifo", "x")],
}


@pytest.mark.parametrize("name", REPLACED)
def test_entries_that_replace_others(store: Store, name: str) -> None:
    data = b"".join(entry(*step) for step in REPLACED[name]) + END
    store.layers.unpack([data])
    assert b"".join(store.layers.stream_tar(diff_id(data))) == data
    tree = tree_of(store, diff_id(data))
    last = REPLACED[name][-1]
    path = tree / last[1]
    if last[0] == "file":
        assert path.read_bytes() == (last[2] if len(last) > 2 else b"")
    if name == "a link's target":
        assert (tree / "y").read_bytes() == b"one"
    assert os.listdir(Path(store.root) / "tmp") == []


def test_a_name_below_a_symlink_stays_inside(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    steps = [
        ("dir", "real"),
        ("symlink", "relative", b"", "real"),
        ("symlink", "absolute", b"", "/real"),
        ("symlink", "up", b"", "../../../real"),
        ("symlink", "out", b"", str(outside)),
        ("symlink", "dangling", b"", "made/later"),
        ("symlink", "chain", b"", "absolute"),
        ("file", "relative/1", b"1"),
        ("file", "absolute/2", b"2"),
        ("file", "up/3", b"3"),
        ("file", "out/4", b"4"),
        ("file", "dangling/5", b"5"),
        ("file", "chain/6", b"6"),
        ("dir", "chain/7"),
        ("link", "chain/8", b"", "relative/1"),
        ("symlink", "chain/9", b"", "x"),
    ]
    data = b"".join(entry(*step) for step in steps) + END
    store.layers.unpack([data])
    tree = tree_of(store, diff_id(data))
    assert sorted(os.listdir(tree / "real")) == ["1", "2", "3", "6", "7", "8", "9"]
    assert os.listdir(outside) == []
    assert (tree / str(outside)[1:] / "4").read_bytes() == b"4"
    assert (tree / "made/later/5").read_bytes() == b"5"
    assert b"".join(store.layers.stream_tar(diff_id(data))) == data


def test_more_directories_than_stay_open(store: Store) -> None:
    data = b"".join(entry("dir", f"d{n}") for n in range(300))
    data += b"".join(entry("file", f"d{n}/f", b"%d" % n) for n in (*range(300), *range(300)))
    data += b"".join(entry("link", f"d{299 - n}/l", target=f"d{n}/f") for n in range(300)) + END
    store.layers.unpack([data])
    tree = tree_of(store, diff_id(data))
    assert all((tree / f"d{299 - n}/l").read_bytes() == b"%d" % n for n in range(300))
    assert b"".join(store.layers.stream_tar(diff_id(data))) == data


def test_old_aufs_bookkeeping_is_skipped(store: Store) -> None:
    data = entry("dir", ".wh..wh.plnk/") + entry("file", ".wh..wh.plnk/1.2", b"data")
    data += entry("file", ".wh..wh.aufs", b"x") + entry("file", "a") + END
    store.layers.unpack([data])
    assert os.listdir(tree_of(store, diff_id(data))) == ["a"]
    assert b"".join(store.layers.stream_tar(diff_id(data))) == data


def test_dot_wh_inside_a_name_is_a_plain_name(store: Store) -> None:
    data = entry("file", "a.wh.b", b"x") + entry("file", ".wh", b"y") + END
    store.layers.unpack([data])
    assert sorted(os.listdir(tree_of(store, diff_id(data)))) == [".wh", "a.wh.b"]


def test_present_layers_are_verified_not_unpacked(store: Store) -> None:
    data = entry("file", "a", b"x") + END
    store.layers.unpack([data])
    before = store.layers.info(diff_id(data))
    blob = BlobRef(store.content.put(data), len(data), "application/x-tar")
    assert store.layers.unpack([data], expected=diff_id(data), blob=blob) == diff_id(data)
    assert store.layers.info(diff_id(data)).blob == blob
    assert store.layers.info(diff_id(data)).created_ns == before.created_ns
    with pytest.raises(Corrupt, match="the tar that came has digest"):
        store.layers.unpack([data + b"x"], expected=diff_id(data))


def test_a_plain_archive_has_no_whiteouts(tmp_path: Path) -> None:
    data = entry("dir", "d") + entry("file", "d/.wh.x", b"kept") + entry("file", "old", b"new")
    (tmp_path / "old").write_text("old")
    (tmp_path / "stays").write_text("x")
    root_fd = os.open(tmp_path, os.O_RDONLY)
    contents = Unpacker(root_fd, Policy(whiteouts=False)).run(TarReader(iter([data + END])))
    os.close(root_fd)
    assert (tmp_path / "d/.wh.x").read_bytes() == b"kept"
    assert (tmp_path / "old").read_bytes() == b"new"
    assert (tmp_path / "stays").exists()
    assert contents.entries == 3


# -- what is refused -------------------------------------------------------------------------

HOSTILE = {
    "dot dot": (entry("file", "../evil", b"x"), "leads out"),
    "dot dot inside": (entry("file", "a/../../evil", b"x"), "leads out"),
    "harmless dot dot": (entry("file", "a/../b", b"x"), "leads out"),
    "only dot dot": (entry("dir", ".."), "leads out"),
    "absolute": (entry("file", "/etc/passwd", b"x"), "absolute name"),
    "absolute twice": (entry("file", "//etc/passwd", b"x"), "absolute name"),
    "root as a file": (entry("file", "./", b"x"), "the root can only be"),
    "root as a symlink": (entry("symlink", ".", target="/etc"), "the root can only be"),
    "link out": (entry("link", "a", target="../../etc/passwd"), "leads out"),
    "link absolute": (entry("link", "a", target="/etc/passwd"), "absolute name"),
    "link to itself": (entry("file", "a", b"x") + entry("link", "a", target="a"), "to itself"),
    "link to a directory": (entry("dir", "d") + entry("link", "a", target="d"), "is no file"),
    "link to the deleted": (
        entry("file", ".wh.x") + entry("link", "a", target="x"),
        "is no file",
    ),
    "below a file": (entry("file", "a", b"x") + entry("file", "a/b", b"x"), "used as a directory"),
    "below a symlink to a file": (
        entry("file", "a", b"x") + entry("symlink", "s", target="a") + entry("file", "s/b"),
        "used as a directory",
    ),
    "symlinks in a circle": (
        entry("symlink", "a", target="b") + entry("symlink", "b", target="a") + entry("dir", "a/c"),
        "too many symlinks",
    ),
    "symlink to nothing": (entry("symlink", "a", target=""), "without a proper target"),
    "whiteout device": (entry("char", "a", device=(0, 0)), "would be a whiteout"),
    "wide device": (entry("char", "a", device=(4096, 0)), "out of range"),
    "wide minor": (entry("block", "a", device=(0, 1 << 20)), "out of range"),
    "overlay xattr": (
        entry("dir", "a", xattrs=[(b"trusted.overlay.opaque", b"y")]),
        "overlay's own",
    ),
    "overlay redirect": (
        entry("dir", "a", xattrs=[(b"trusted.overlay.redirect", b"/etc")]),
        "overlay's own",
    ),
    "user overlay xattr": (
        entry("file", "a", xattrs=[(b"user.overlay.metacopy", b"")]),
        "overlay's own",
    ),
    "overlay xattr on the root": (
        entry("dir", "./", xattrs=[(b"trusted.overlay.metacopy", b"y")]),
        "overlay's own",
    ),
    "whiteout of nothing": (entry("file", ".wh."), "a whiteout of nothing"),
    "whiteout of dot": (entry("file", "a/.wh.."), "a whiteout of nothing"),
    "whiteout of dot dot": (entry("file", "a/.wh..."), "a whiteout of nothing"),
    "whiteout directory": (entry("file", ".wh.a/b", b"x"), "cannot be a directory"),
    "opaque below a whiteout": (entry("file", "d/.wh.a/.wh..wh..opq"), "cannot be a directory"),
    "long name": (entry("file", "a" * 256), "longer than 255"),
    "long parent": (entry("file", "a" * 256 + "/b"), "longer than 255"),
    "zero byte": (entry("file", b"a\0b".ljust(120, b"x")), "zero byte"),
    "unknown type": (entry("other", "a"), "type b'Z' are not supported"),
    "multi volume": (entry("multi", "a"), "type b'M' are not supported"),
    "time": (entry("file", "a", mtime_s=1 << 63), "out of range"),
    "time of a directory": (entry("dir", "a", mtime_s=1 << 63), "out of range"),
    "owner": (encode(Header(b"a", b"0", uid=(1 << 32) - 1)), "owner .* out of range"),
    "cut off": (entry("file", "a", b"x" * 10_000)[:5000], "ends inside a file's data"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [400, 1 << 18])
def test_hostile_tars_are_refused_and_leave_nothing(
    store: Store, tmp_path: Path, name: str, size: int
) -> None:
    bad, cause = HOSTILE[name]
    data = entry("dir", "before") + entry("file", "before/file", b"x" * 2000) + bad
    if name != "cut off":
        data += entry("file", "after", b"y") + END
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    with pytest.raises(BadArchive, match=cause) as caught:
        store.layers.unpack(chunks)
    assert "\n" not in str(caught.value)
    assert leftovers(store) == []
    assert sorted(os.listdir(tmp_path)) == ["store"]


def test_another_digest_than_expected_leaves_nothing(store: Store) -> None:
    data = entry("file", "a", b"x") + END
    with pytest.raises(Corrupt, match=diff_id(b"other")):
        store.layers.unpack([data], expected=diff_id(b"other"))
    assert leftovers(store) == []


def test_an_error_of_the_source_leaves_nothing(store: Store) -> None:
    def chunks():
        yield entry("file", "a", b"x" * 100_000)[:50_000]
        raise ConnectionError("reset by peer")

    with pytest.raises(Exception, match="reset by peer"):
        store.layers.unpack(chunks())
    assert leftovers(store) == []
