"""What a layer's headers say without its files, and what a chain shows."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from store.digest import DiffID, digest_of
from store.errors import Corrupt, NotFound
from store.layerlisting import digests, linked, listing, resolved, shown
from store.root import Store
from store.tarwriter import END, Header, encode, padding


def file(name: str, data: bytes = b"") -> bytes:
    header = Header(name.encode(), b"0", 0o644, size_bytes=len(data), mtime_s=2)
    return encode(header) + data + padding(len(data))


def directory(name: str) -> bytes:
    return encode(Header(name.encode() + b"/", b"5", 0o755, mtime_s=1))


def link(name: str, target: str) -> bytes:
    return encode(Header(name.encode(), b"1", target=target.encode()))


def symlink(name: str, target: str) -> bytes:
    return encode(Header(name.encode(), b"2", 0o777, target=target.encode()))


def add(store: Store, *entries: bytes, below: Iterable[DiffID] = ()) -> DiffID:
    return store.layers.unpack([b"".join(entries) + END], below=tuple(below))


def paths(store: Store, *chain: DiffID) -> dict[bytes, int]:
    return {path: entry.layer for path, entry in shown(store.layers, chain).entries.items()}


def test_a_layer_is_listed_in_its_order(store: Store) -> None:
    layer = add(
        store, directory("d"), file("d/big", b"x" * 1_000_000), symlink("d/s", "big"), file(".wh.a")
    )
    found = [(e.path, e.deletes, e.member.size_bytes) for e in listing(store.layers, layer)]
    assert found == [
        (b"d", False, 0),
        (b"d/big", False, 1_000_000),
        (b"d/s", False, 0),
        (b"a", True, 0),
    ]


def test_later_layers_hide_earlier_ones(store: Store) -> None:
    base = add(store, directory("d"), file("d/a", b"1"), file("d/b", b"22"), file("e", b"333"))
    top = add(store, directory("d"), file("d/a", b"4444"), file(".wh.e"), below=[base])
    view = shown(store.layers, [base, top])
    assert {path: e.layer for path, e in view.entries.items()} == {b"d": 1, b"d/a": 1, b"d/b": 0}
    assert sorted(entry.path for entry in view.hidden) == [b"d/a", b"e"]
    assert {entry.layer for entry in view.hidden} == {0}


def test_an_opaque_directory_hides_what_was_in_it(store: Store) -> None:
    base = add(store, directory("d"), directory("d/sub"), file("d/sub/a", b"1"), file("dx"))
    top = add(store, directory("d"), file("d/.wh..wh..opq"), file("d/new"), below=[base])
    assert paths(store, base, top) == {b"d": 1, b"d/new": 1, b"dx": 0}


def test_a_directory_becomes_a_file_and_back(store: Store) -> None:
    base = add(store, directory("d"), file("d/a", b"1"))
    middle = add(store, file("d", b"2"), below=[base])
    top = add(store, directory("d"), file("d/b", b"3"), below=[base, middle])
    assert paths(store, base, middle) == {b"d": 1}
    view = shown(store.layers, [base, middle, top])
    assert sorted(view.entries) == [b"d", b"d/b"]
    assert sorted((entry.path, entry.layer) for entry in view.hidden) == [
        (b"d", 0),
        (b"d", 1),
        (b"d/a", 0),
    ]


def test_a_hard_link_leads_to_its_bytes(store: Store) -> None:
    layer = add(store, file("a", b"1"), link("b", "a"), link("c", "b"))
    entries = shown(store.layers, [layer]).entries
    assert linked(entries, entries[b"c"]).path == b"a"


def test_a_path_through_symlinks(store: Store) -> None:
    layer = add(
        store,
        symlink("bin", "usr/bin"),
        symlink("lib", "/usr/../usr/lib"),
        symlink("loop", "loop"),
        directory("usr"),
        directory("usr/bin"),
        symlink("usr/bin/sh", "dash"),
    )
    entries = shown(store.layers, [layer]).entries
    assert resolved(entries, b"/bin/sh") == b"usr/bin/sh"
    assert resolved(entries, b"./lib//x") == b"usr/lib/x"
    assert resolved(entries, b"loop/x") == b"loop/x"
    assert resolved(entries, b"../../etc") == b"etc"


def test_holes_are_zeros(store: Store, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as sparse:
        sparse.write(b"start")
        sparse.seek(300_000)
        sparse.write(b"middle")
        sparse.truncate(1_000_001)
    words = ["tar", "-S", "--format=posix", "-C", tmp_path, "-c", "file"]
    tar = subprocess.run(words, capture_output=True, check=True).stdout
    assert len(tar) < 500_000
    layer = store.layers.unpack([tar])
    expected = digest_of((tmp_path / "file").read_bytes())
    assert digests(store.layers, layer, {b"file"}) == {b"file": expected}


def test_digests_of_some_files(store: Store) -> None:
    layer = add(store, file("a", b"1"), file("b", b"2"), file("b", b"3"))
    assert digests(store.layers, layer, {b"b", b"none"}) == {b"b": digest_of(b"3")}


def test_a_layer_that_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound):
        list(listing(store.layers, DiffID("sha256:" + "0" * 64)))


def test_a_damaged_layer(store: Store) -> None:
    layer = add(store, file("a", b"1"))
    with open(f"{store.layers.path(layer)}/headers", "r+b") as headers:
        headers.truncate(30)
    with pytest.raises(Corrupt):
        list(listing(store.layers, layer))
