"""Layers on chains: which lower directories show them, and what depends on what lies below."""

import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from store.compression import compressed
from store.digest import DiffID, digest_of
from store.errors import BadArchive, Corrupt, NewerFormat, NotFound
from store.layerinfo import BlobRef
from store.mount import OverlayMount
from store.root import Store
from store.tarwriter import END, Header, encode, padding

EMPTY = DiffID("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")


def directory(name: str, mode: int = 0o755, mtime_s: int = 1) -> bytes:
    return encode(Header(name.encode() + b"/", b"5", mode, mtime_s=mtime_s))


def file(name: str, data: bytes = b"") -> bytes:
    header = Header(name.encode(), b"0", 0o644, size_bytes=len(data), mtime_s=2)
    return encode(header) + data + padding(len(data))


def link(name: str, target: str) -> bytes:
    return encode(Header(name.encode(), b"1", target=target.encode()))


def add(store: Store, *entries: bytes, below: Iterable[DiffID] = ()) -> DiffID:
    return store.layers.unpack([b"".join(entries) + END], below=tuple(below))


def lower(store: Store, chain: list[DiffID], index: int = 0) -> Path:
    return Path(store.root) / store.layers.lower_path(chain)[index]


# -- lower directories -----------------------------------------------------------------------


def test_lowers_are_short_aliases_topmost_first(store: Store) -> None:
    chain = [add(store, file(name, b"x")) for name in "abc"]
    lowers = store.layers.lower_path(chain)
    assert [sorted(os.listdir(Path(store.root) / path)) for path in lowers] == [["c"], ["b"], ["a"]]
    assert all(len(path) <= 4 for path in lowers)
    assert store.layers.lower_path(chain[:1]) == lowers[2:]
    assert store.layers.lower_path([]) == ()


def test_empty_layers_are_left_out_and_repeated_ones_stand_once(store: Store) -> None:
    empty = add(store)
    assert empty == EMPTY
    assert store.layers.info(empty).empty
    a, b = add(store, file("a")), add(store, file("b"))
    alias = {diff_id: store.layers.lower_path([diff_id])[0] for diff_id in (a, b)}
    assert store.layers.lower_path([empty]) == ()
    assert store.layers.lower_path([a, empty, b, empty, a, empty]) == (alias[a], alias[b])


def test_an_opaque_root_hides_all_below(store: Store) -> None:
    a, b = add(store, file("a")), add(store, file(".wh..wh..opq"), file("b"))
    assert store.layers.lower_path([a, b]) == store.layers.lower_path([b])


def test_128_layers_fit_into_one_page(store: Store) -> None:
    chain = [add(store, file(f"f{number}")) for number in range(128)]
    assert len(":".join(store.layers.lower_path(chain))) < 1000


def test_absent(store: Store) -> None:
    a = add(store, file("a"))
    with pytest.raises(NotFound, match=EMPTY):
        store.layers.lower_path([a, EMPTY])
    with pytest.raises(NotFound):
        store.layers.info(EMPTY)
    assert not store.layers.has(EMPTY)
    store.layers.remove(EMPTY)


# -- layers that lean on what lies below -----------------------------------------------------


def test_missing_parents_take_their_attributes_from_below(store: Store) -> None:
    base = add(store, directory("tmp", 0o1777, 77), file("tmp/old", b"o"))
    top = add(store, file("tmp/foo", b"x"), file("new/dir/file"), below=[base])
    assert not store.layers.info(top).shareable
    tree = lower(store, [base, top])
    assert stat.S_IMODE((tree / "tmp").stat().st_mode) == 0o1777
    assert (tree / "tmp").stat().st_mtime == 77
    assert stat.S_IMODE((tree / "new/dir").stat().st_mode) == 0o755
    assert (tree / "tmp/foo").read_bytes() == b"x"
    other = add(store, directory("tmp", 0o700))
    assert stat.S_IMODE((lower(store, [other, top]) / "tmp").stat().st_mode) == 0o700
    alone = lower(store, [top]) / "tmp"
    assert stat.S_IMODE(alone.stat().st_mode) == 0o755
    assert b"".join(store.layers.stream_tar(top)).startswith(file("tmp/foo", b"x"))


def test_a_hard_link_to_a_file_below(store: Store) -> None:
    base = add(store, directory("d", 0o750), file("d/target", b"data" * 1000))
    top = add(store, directory("e"), link("e/link", "d/target"))
    assert not store.layers.info(top).shareable
    tree = lower(store, [base, top])
    assert (tree / "e/link").read_bytes() == b"data" * 1000
    assert (tree / "e/link").stat().st_ino == (tree / "d/target").stat().st_ino
    assert (tree / "e/link").stat().st_mtime == 2
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o750
    below = lower(store, [base, top], 1) / "d/target"
    assert below.stat().st_ino != (tree / "d/target").stat().st_ino
    with pytest.raises(BadArchive, match="hard link to d/target, which is no file"):
        store.layers.lower_path([top])
    assert os.listdir(Path(store.root) / "tmp") == []


def test_idle_whiteouts_are_not_mounted(store: Store) -> None:
    base = add(store, file("a"), directory("d"), file("d/x"))
    top = add(store, file(".wh.a"), file(".wh.b"), directory("d"), file("d/.wh.x"), file("c"))
    tree = lower(store, [base, top])
    assert sorted(os.listdir(tree)) == ["a", "c", "d"]
    assert os.listdir(tree / "d") == ["x"]
    assert stat.S_ISCHR((tree / "a").stat().st_mode)
    fitting = add(store, file("a"), file("b"), directory("d"), file("d/x"))
    assert sorted(os.listdir(lower(store, [fitting, top]))) == ["a", "b", "c", "d"]
    assert store.layers.lower_path([fitting, top])[0] == "l/2"
    twice = lower(store, [base, top, top])
    assert sorted(os.listdir(twice)) == ["c", "d"]


def test_whiteouts_in_other_orders(store: Store) -> None:
    base = add(store, file("x"), directory("y"), file("y/z"))
    top = add(store, file(".wh.x"), file("x", b"new"), file("y", b"now a file"), file(".wh.y"))
    tree = lower(store, [base, top])
    assert (tree / "x").read_bytes() == b"new"
    assert (tree / "y").read_bytes() == b"now a file"
    assert b"".join(store.layers.stream_tar(top)).endswith(END)


def test_chains_are_composed_once(store: Store) -> None:
    base = add(store, directory("tmp", 0o1777))
    top = add(store, file("tmp/foo"))
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(store.layers.lower_path([base, top])))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1
    assert len(os.listdir(Path(store.root) / "chains/sha256")) == 1


def test_a_damaged_chain_is_made_again(store: Store) -> None:
    base = add(store, directory("tmp", 0o1777))
    top = add(store, file("tmp/foo"), below=[base])
    (chain,) = (Path(store.root) / "chains/sha256").iterdir()
    for damage in (b"", b"[]", b"{"):
        (chain / "chain.json").write_bytes(damage)
        assert stat.S_IMODE((lower(store, [base, top]) / "tmp").stat().st_mode) == 0o1777
    value = json.loads((chain / "chain.json").read_bytes())
    (chain / "chain.json").write_text(json.dumps(value | {"version": 2}))
    with pytest.raises(NewerFormat):
        store.layers.lower_path([base, top])


def test_a_base_without_directory_entries_is_not_stored_twice(store: Store) -> None:
    base = add(store, file("usr/bin/tool", b"x"))
    assert not store.layers.info(base).shareable
    top = add(store, file("opt/other", b"y"))
    assert store.layers.lower_path([base, top]) == ("l/2", "l/1")
    assert len(os.listdir(Path(store.root) / "l")) == 2


def test_an_alias_that_became_anothers_is_noticed(store: Store) -> None:
    """Another process may collect a layer, and its alias goes to the next one."""
    layer = add(store, file("a"))
    assert store.layers.lower_path([layer]) == ("l/1",)
    with Store.open(store.root) as other:
        other.layers.remove(layer)
        assert add(other, file("b")) != layer
        add(other, file("a"))
    assert store.layers.lower_path([layer]) == ("l/2",)


def test_removing_a_layer_removes_its_chains(store: Store) -> None:
    base = add(store, directory("tmp", 0o1777))
    top = add(store, file("tmp/foo"), below=[base])
    assert os.listdir(Path(store.root) / "chains/sha256")
    store.layers.remove(base)
    assert os.listdir(Path(store.root) / "chains/sha256") == []
    store.layers.remove(top)
    assert os.listdir(Path(store.root) / "l") == []
    assert list(store.layers.iter()) == []


# -- blobs and streams -----------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "gzip", "zstd"])
def test_a_layer_from_its_blob(store: Store, algorithm: str) -> None:
    tar = directory("d") + file("d/f", b"x" * 100_000) + END
    blob = store.content.put(b"".join(compressed([tar], algorithm)))
    expected = DiffID("sha256:" + hashlib.sha256(tar).hexdigest())
    assert store.layers.unpack_blob(blob, "application/x", expected) == expected
    ref = BlobRef(blob, store.content.size(blob), "application/x")
    assert store.layers.info(expected).blob == ref
    assert b"".join(store.layers.stream_tar(expected)) == tar
    store.content.remove(blob)
    assert b"".join(store.layers.stream_tar(expected)) == tar
    assert store.layers.unpack([tar], expected=expected) == expected


def test_a_blob_of_something_else_is_never_taken_for_a_layers(store: Store) -> None:
    layer = add(store, file("good"))
    evil = store.content.put(b"".join(compressed([file("evil") + END], "gzip")))
    ref = BlobRef(evil, store.content.size(evil), "application/x")
    with pytest.raises(Corrupt):
        store.layers.set_blob(layer, ref)
    with pytest.raises(Corrupt):
        store.layers.unpack_blob(evil, "application/x", layer)
    assert store.layers.info(layer).blob is None
    good = store.content.put(b"".join(compressed([file("good") + END], "zstd")))
    ref = BlobRef(good, store.content.size(good), "application/x")
    store.layers.set_blob(layer, ref)
    assert store.layers.info(layer).blob == ref


def test_a_damaged_blob_leaves_nothing(store: Store) -> None:
    tar = file("d", b"x" * 100_000) + END
    packed = b"".join(compressed([tar], "gzip"))
    expected = DiffID("sha256:" + hashlib.sha256(tar).hexdigest())
    for data in (packed[:-10], packed[:50], b"\x1f\x8b nonsense", b""):
        blob = store.content.put(data)
        with pytest.raises((BadArchive, Corrupt)):
            store.layers.unpack_blob(blob, "application/x", expected)
    assert list(store.layers.iter()) == []
    assert os.listdir(Path(store.root) / "tmp") == []
    with pytest.raises(NotFound):
        store.layers.unpack_blob(digest_of(b"absent"), "application/x", expected)


def test_damage_is_found_when_streamed(store: Store) -> None:
    layer = add(store, directory("d"), file("d/f", b"x" * 1000))
    path = Path(store.layers.path(layer))
    (path / "fs/d/f").write_bytes(b"x" * 999 + b"y")
    with pytest.raises(Corrupt, match=f"layer {layer}") as caught:
        list(store.layers.stream_tar(layer))
    assert caught.value.hint
    (path / "fs/d/f").write_bytes(b"x" * 999)
    with pytest.raises(Corrupt, match="is too short"):
        list(store.layers.stream_tar(layer))
    (path / "fs/d/f").unlink()
    (path / "fs/d/f").symlink_to("/etc/passwd")
    with pytest.raises(Corrupt, match="fs/d/f"):
        list(store.layers.stream_tar(layer))
    (path / "headers").unlink()
    with pytest.raises(Corrupt, match="its header stream is gone"):
        list(store.layers.stream_tar(layer))


def test_attributes_on_disk_do_not_matter_to_the_stream(store: Store) -> None:
    layer = add(store, directory("d"), file("d/f", b"x"))
    path = Path(store.layers.path(layer)) / "fs/d/f"
    path.chmod(0o600)
    os.utime(path, (5, 5))
    assert b"".join(store.layers.stream_tar(layer)) == directory("d") + file("d/f", b"x") + END


def test_records_of_the_future_and_broken_ones(store: Store) -> None:
    layer = add(store, file("f"))
    path = Path(store.layers.path(layer)) / "layer.json"
    value = json.loads(path.read_bytes())
    path.write_text(json.dumps(value | {"version": 2}))
    with pytest.raises(NewerFormat):
        store.layers.info(layer)
    path.write_text("{")
    with pytest.raises(Corrupt, match=r"layer\.json is damaged"):
        store.layers.info(layer)
    store.layers.remove(layer)


def test_two_unpack_the_same_at_once(store: Store) -> None:
    tar = b"".join(file(f"f{number}", b"x") for number in range(500)) + END
    expected = DiffID("sha256:" + hashlib.sha256(tar).hexdigest())
    failures = []

    def work(known: bool) -> None:
        try:
            store.layers.unpack([tar], expected=expected if known else None)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n % 2 == 0,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(os.listdir(Path(store.root) / "l")) == 1
    assert os.listdir(Path(store.root) / "tmp") == []


def test_views(store: Store) -> None:
    a, b = add(store, file("a")), add(store, file("b"))
    assert store.snapshots.view([a, b]) == OverlayMount(store.root, ("l/2", "l/1"))
    nothing = store.snapshots.view([])
    assert os.listdir(Path(nothing.base) / nothing.lowers[0]) == []
    stubs = store.snapshots.view([a], stubs=True).stubs
    assert stubs is not None
    assert sorted(os.listdir(Path(store.root) / stubs)) == ["dev", "etc", "proc", "sys"]
