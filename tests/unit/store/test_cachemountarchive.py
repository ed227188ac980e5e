"""Cache mounts that travel in a tar."""

import gzip
import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from store.cachemountarchive import export_mounts, import_mounts
from store.cachemounts import CacheMountKey, CacheMounts
from store.errors import BadArchive
from store.root import Store

KEY, OTHER = CacheMountKey("pip"), CacheMountKey("go", "sha256:1")


def fill(mounts: CacheMounts, key: CacheMountKey, text: str) -> Path:
    instance = mounts.use(key, sharing="shared", make=os.mkdir, wait=lambda _s: None)
    instance.close()
    (Path(instance.path) / "text").write_text(text)
    return Path(instance.path)


def path_of(mounts: CacheMounts, key: CacheMountKey) -> Path:
    (info,) = (info for info in mounts.mounts() if info.key == key)
    return Path(info.paths[0])


def exported(store: Store) -> bytes:
    out = io.BytesIO()
    export_mounts(store.cache_mounts, store.cache_mounts.mounts(), out)
    return out.getvalue()


def taken_in(store: Store, data: bytes) -> list[CacheMountKey]:
    return import_mounts(store.folder, store.cache_mounts, io.BytesIO(data))


@pytest.fixture
def there(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "there")


@pytest.fixture
def here(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "here")


def test_everything_comes_along(here: Store, there: Store) -> None:
    root = fill(here.cache_mounts, KEY, "pip's")
    fill(here.cache_mounts, OTHER, "go's")
    (root / "d").mkdir(mode=0o700)
    (root / "d/x").write_bytes(os.urandom(100_000))
    (root / "d/x").chmod(0o4750)
    os.link(root / "d/x", root / "hard")
    (root / "soft").symlink_to("/etc/shadow")
    os.mkfifo(root / "fifo")
    Path(os.fsdecode(bytes(root) + b"/\xff")).touch()
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    os.utime(root / "d/x", ns=(1, 1_600_000_000_123_456_789))
    os.utime(root / "d", ns=(1, 1_500_000_000_000_000_001))
    root.chmod(0o711)
    assert taken_in(there, gzip.compress(exported(here))) == [OTHER, KEY]
    copy = path_of(there.cache_mounts, KEY)
    names = ["d", "fifo", "hard", "soft", "text", os.fsdecode(b"\xff")]
    assert sorted(os.listdir(copy)) == sorted(names)
    assert (copy / "d/x").read_bytes() == (root / "d/x").read_bytes()
    assert (copy / "d/x").samefile(copy / "hard")
    assert os.readlink(copy / "soft") == "/etc/shadow"
    assert stat.S_ISFIFO((copy / "fifo").lstat().st_mode)
    for name in (".", "d", "d/x", "text", "soft"):
        old, new = (root / name).lstat(), (copy / name).lstat()
        assert (new.st_mode, new.st_mtime_ns) == (old.st_mode, old.st_mtime_ns)
    assert (path_of(there.cache_mounts, OTHER) / "text").read_text() == "go's"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_owners_and_attributes_come_along(here: Store, there: Store) -> None:
    root = fill(here.cache_mounts, KEY, "x")
    (root / "soft").symlink_to("text")
    os.setxattr(root / "text", "user.note", b"\xff\x00")
    for number, name in enumerate((".", "text", "soft")):
        os.lchown(root / name, 1000 + number, 3_000_000_000)
    taken_in(there, exported(here))
    copy = path_of(there.cache_mounts, KEY)
    owners = [((copy / n).lstat().st_uid, (copy / n).lstat().st_gid) for n in (".", "text", "soft")]
    assert owners == [(1000 + number, 3_000_000_000) for number in range(3)]
    assert os.getxattr(copy / "text", "user.note") == b"\xff\x00"


MB = 1 << 20
SPARSE = {
    "a hole before": [(8 * MB, b"end")],
    "a hole behind": [(0, b"begin"), (8 * MB, b"")],
    "holes between": [(4 * MB * n, b"%d" % n * 5000) for n in range(1, 90)],
    "nothing else": [(8 * MB, b"")],
}


@pytest.mark.parametrize("runs", SPARSE.values(), ids=SPARSE)
def test_holes_stay_holes(
    here: Store, there: Store, runs: list[tuple[int, bytes]], tmp_path: Path
) -> None:
    root = fill(here.cache_mounts, KEY, "x")
    name = os.fsdecode(b"sp\xe4rse")
    with open(root / name, "wb") as file:
        for offset, data in runs:
            file.seek(offset)
            file.write(data)
            file.truncate(offset + len(data))
    os.utime(root / name, ns=(1, 1_600_000_000_123_456_789))
    data = exported(here)
    assert len(data) < 2 * MB
    taken_in(there, data)
    old, new = root / name, path_of(there.cache_mounts, KEY) / name
    assert (new.lstat().st_size, new.lstat().st_mtime_ns) == (
        old.lstat().st_size,
        old.lstat().st_mtime_ns,
    )
    assert new.lstat().st_blocks * 512 < 2 * MB
    for offset, run in runs:
        with open(new, "rb") as file:
            file.seek(max(0, offset - 10))
            assert file.read(min(offset, 10) + len(run)) == bytes(min(offset, 10)) + run
    (tmp_path / "x.tar").write_bytes(data)
    listing = subprocess.run(
        ["tar", "-tvf", tmp_path / "x.tar", "--numeric-owner"], capture_output=True, check=True
    ).stdout
    assert str(old.lstat().st_size).encode() in listing, "GNU's tar knows it too"
    assert listing.count(b"\n") == 5


def test_what_is_there_is_replaced_and_what_is_used_stays(here: Store, there: Store) -> None:
    fill(here.cache_mounts, KEY, "new")
    fill(there.cache_mounts, KEY, "old")
    used = there.cache_mounts.use(KEY, sharing="shared", make=os.mkdir, wait=lambda _s: None)
    taken_in(there, exported(here))
    assert (path_of(there.cache_mounts, KEY) / "text").read_text() == "new"
    assert (Path(used.path) / "text").read_text() == "old"
    used.close()


def test_an_empty_store_travels_too(here: Store, there: Store) -> None:
    assert taken_in(there, exported(here)) == []


def archive(*names: str, data: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    {
        "no tar": b"x" * 1024,
        "another tar": archive("bin/sh"),
        "no record": archive("0/fs"),
        "a broken record": archive("0/record.json", "0/fs", data=b"{"),
        "a newer record": archive("0/record.json", "0/fs", data=b'{"version":99}'),
        "nothing": b"",
        "a way out": archive("0/fs/../../../x"),
    }.values(),
)
def test_what_is_no_such_archive_changes_nothing(there: Store, data: bytes) -> None:
    kept = fill(there.cache_mounts, KEY, "kept")
    with pytest.raises(BadArchive):
        taken_in(there, data)
    assert (kept / "text").read_text() == "kept"
    assert os.listdir(there.folder.path("tmp")) == []


def test_an_archive_that_ends_early_changes_nothing(here: Store, there: Store) -> None:
    fill(here.cache_mounts, KEY, "new" * 10_000)
    with pytest.raises(BadArchive):
        taken_in(there, exported(here)[:12_000])
    assert there.cache_mounts.mounts() == []
