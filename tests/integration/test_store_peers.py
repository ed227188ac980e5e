"""Layers judged by programs that we did not write, and random trees there and back."""

import hashlib
import io
import json
import os
import random
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.compression import compressed
from store.digest import DiffID
from store.root import Store

pytestmark = pytest.mark.kernel

Rounds = Callable[[int, int], int]
Seen = dict[str, tuple[object, ...]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def seen(top: Path) -> Seen:
    """Return what an ordinary program can see of a tree: no names of ours, no marks."""
    found: Seen = {}
    groups: dict[tuple[int, int], list[str]] = {}
    stack = [os.fsencode(top)]
    while stack:
        folder = stack.pop()
        for entry in os.scandir(folder):
            status = entry.stat(follow_symlinks=False)
            name = os.fsdecode(os.path.relpath(entry.path, os.fsencode(top)))
            content: object = status.st_rdev
            if stat.S_ISREG(status.st_mode):
                with open(entry.path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(entry.path)
            if stat.S_ISDIR(status.st_mode):
                stack.append(entry.path)
            elif status.st_nlink > 1:
                groups.setdefault((status.st_dev, status.st_ino), []).append(name)
            xattrs = tuple(
                (key, os.getxattr(entry.path, key, follow_symlinks=False))
                for key in sorted(os.listxattr(entry.path, follow_symlinks=False))
            )
            times = status.st_mtime_ns
            found[name] = (status.st_mode, status.st_uid, status.st_gid, times, content, xattrs)
    for names in groups.values():
        for name in names:
            found[name] += (tuple(sorted(names)),)
    return found


KINDS = ["dir", "file", "file", "file", "link", "symlink", "fifo", "node", "hole"]


def grow(top: str, rng: random.Random, count: int) -> None:
    """Make a random tree with everything that a layer can hold."""
    folders = [os.fsencode(top)]
    files: list[bytes] = []
    for _ in range(count):
        name = os.path.join(rng.choice(folders), random_name(rng))
        kind = rng.choice(KINDS)
        if os.path.lexists(name) or (kind == "link" and not files):
            continue
        make(kind, name, rng, files)
        if kind in ("dir", "file"):
            (folders if kind == "dir" else files).append(name)
        os.lchown(name, rng.choice([0, 1000, 1 << 22, (1 << 32) - 2]), rng.choice([0, 5, 1 << 30]))
        if kind != "symlink":
            os.chmod(name, rng.randrange(0o10000))
        if kind in ("file", "dir") and rng.random() < 0.3:
            os.setxattr(name, "user.x", rng.randbytes(rng.randrange(50)))
        if kind == "file" and rng.random() < 0.1:
            os.setxattr(name, "security.capability", bytes.fromhex("01000002" + "00" * 16))
    for folder, names, others in os.walk(os.fsencode(top), topdown=False):
        for name in [*names, *others]:
            times = rng.randrange(-(1 << 31), 1 << 33), rng.randrange(-(1 << 31), 1 << 33)
            os.utime(os.path.join(folder, name), times, follow_symlinks=False)


def make(kind: str, name: bytes, rng: random.Random, files: list[bytes]) -> None:
    if kind == "dir":
        os.mkdir(name)
    elif kind == "link":
        os.link(rng.choice(files), name)
    elif kind == "symlink":
        os.symlink(rng.randbytes(rng.randrange(1, 150)).replace(b"\0", b"x"), name)
    elif kind == "fifo":
        os.mkfifo(name)
    elif kind == "node":
        device = os.makedev(rng.randrange(1, 4096), rng.randrange(1 << 20))
        os.mknod(name, rng.choice([stat.S_IFCHR, stat.S_IFBLK]) | 0o600, device)
    else:
        with open(name, "wb") as file:
            if kind == "hole":
                file.seek(rng.randrange(1 << 20))
            file.write(rng.randbytes(rng.choice([0, 1, 511, 512, 513, 5000, 300_000])))


def random_name(rng: random.Random) -> bytes:
    size = rng.choice([1, 3, 8, 60, 101, 255])
    if rng.random() < 0.6:
        return (
            bytes(rng.choice(b"abcdefghijklmnop-_.XYZ 0") for _ in range(size)).lstrip(b".") or b"x"
        )
    raw = rng.randbytes(size).replace(b"/", b"_").replace(b"\0", b"0")
    return b"n" + raw[1:] if raw.startswith(b".") else raw


def layer_of(store: Store, seed: int, count: int = 60) -> tuple[DiffID, Seen]:
    with store.snapshots.prepare([]) as active:
        grow(active.upper, random.Random(seed), count)
        before = seen(Path(active.upper))
        diff_id = active.commit().diff_id
    return diff_id, before


def tar_of(store: Store, diff_id: DiffID) -> bytes:
    return b"".join(store.layers.stream_tar(diff_id))


@pytest.mark.slow
def test_a_random_tree_there_and_back(tmp_path: Path, rounds: Rounds) -> None:
    for seed in range(rounds(300, 15)):
        with Store.open(tmp_path / f"a{seed}") as one, Store.open(tmp_path / f"b{seed}") as other:
            diff_id, before = layer_of(one, seed)
            tree = Path(one.layers.path(diff_id)) / "fs"
            assert seen(tree) == before, seed
            assert other.layers.unpack([tar_of(one, diff_id)], expected=diff_id) == diff_id
            assert seen(Path(other.layers.path(diff_id)) / "fs") == before, seed
            record = one.layers.record(diff_id)
            again = other.layers.record(diff_id)
            assert record.info.files == again.info.files
            assert record.info.content_bytes == again.info.content_bytes
            # Committed anew from the unpacked tree, it is the same layer.
            with other.snapshots.prepare([]) as active:
                os.rmdir(active.upper)
                os.rename(Path(other.layers.path(diff_id)) / "fs", active.upper)
                other.layers.remove(diff_id)
                assert active.commit().diff_id == diff_id, seed


@pytest.mark.slow
def test_gnu_tar_sees_the_same_tree(
    store: Store, tmp_path: Path, tool: Callable[[str], str], rounds: Rounds
) -> None:
    for seed in range(rounds(100, 6)):
        diff_id, before = layer_of(store, seed)
        target = tmp_path / f"gnu{seed}"
        target.mkdir()
        options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "--warning=no-all"]
        subprocess.run(
            [tool("tar"), "-x", *options, "-C", target],
            input=tar_of(store, diff_id),
            check=True,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        )
        assert seen(target) == before, seed


@pytest.mark.slow
def test_tarfile_sees_the_same_entries(store: Store, rounds: Rounds) -> None:
    for seed in range(rounds(100, 6)):
        diff_id, before = layer_of(store, seed)
        data = io.BytesIO(tar_of(store, diff_id))
        with tarfile.open(fileobj=data, errors="surrogateescape") as archive:
            members = archive.getmembers()
        assert {member.name for member in members} == set(before)
        for member in members:
            mode, uid, gid, mtime_ns = before[member.name][:4]
            assert (member.uid, member.gid) == (uid, gid)
            assert member.mode == stat.S_IMODE(mode)
            assert member.mtime * 1_000_000_000 == mtime_ns
        names = [member.name.split("/") for member in members]
        assert [os.fsencode("\0".join(name)) for name in names] == sorted(
            os.fsencode("\0".join(name)) for name in names
        )


@pytest.mark.parametrize("version", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar(
    store: Store, tmp_path: Path, tool: Callable[[str], str], version: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "holes", "wb") as file:
        for number in range(40):
            file.seek(number * 100_000)
            file.write(b"data %d" % number)
        file.truncate(5_000_000)
    (source / "dense").write_bytes(b"x" * 10_000)
    (source / "hollow").touch()
    os.truncate(source / "hollow", 3_000_000)
    form = (
        ["--format=gnu"] if version == "gnu" else ["--format=posix", f"--sparse-version={version}"]
    )
    done = subprocess.run(
        [tool("tar"), "-c", "--sparse", *form, "-C", source, "."], capture_output=True, check=True
    )
    diff_id = store.layers.unpack([done.stdout])
    tree = Path(store.layers.path(diff_id)) / "fs"
    for name in ("holes", "dense", "hollow"):
        assert (tree / name).read_bytes() == (source / name).read_bytes()
    assert (tree / "holes").stat().st_blocks < 1000
    assert tar_of(store, diff_id) == done.stdout


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_every_format_of_gnu_tar(
    store: Store, tmp_path: Path, tool: Callable[[str], str], form: str
) -> None:
    source = tmp_path / "source"
    (source / "dir").mkdir(parents=True)
    (source / "dir" / "file").write_bytes(b"x" * 1000)
    (source / "dir" / "alias").symlink_to("file")
    os.link(source / "dir" / "file", source / "dir" / "same")
    if form not in ("v7", "ustar"):
        (source / "dir" / ("long" * 60)).write_bytes(b"y")
        (source / "dir" / "far").symlink_to("t" * 300)
    os.utime(source / "dir", (5, 5))
    done = subprocess.run(
        [tool("tar"), "-c", f"--format={form}", "-C", source, "dir"],
        capture_output=True,
        check=True,
    )
    diff_id = store.layers.unpack([done.stdout])
    found = {k: v[:3] + v[4:] for k, v in seen(Path(store.layers.path(diff_id)) / "fs").items()}
    assert found == {k: v[:3] + v[4:] for k, v in seen(source).items()}
    assert tar_of(store, diff_id) == done.stdout


def test_umoci_unpacks_our_layers(store: Store, tmp_path: Path, tool: Callable[[str], str]) -> None:
    base, _ = layer_of(store, 1)
    with store.snapshots.prepare([base]) as active:
        victims = sorted(os.listdir(Path(store.root) / store.layers.lower_path([base])[0]))[:3]
        for name in victims:
            os.mknod(os.path.join(active.upper, name), stat.S_IFCHR, 0)
        Path(active.upper, "added").write_text("x")
        top = active.commit().diff_id
    layout(store, tmp_path / "oci", [base, top])
    subprocess.run(
        [tool("umoci"), "unpack", "--image", f"{tmp_path}/oci:test", tmp_path / "bundle"],
        check=True,
        capture_output=True,
    )
    found = set(os.listdir(tmp_path / "bundle/rootfs"))
    everything = set(os.listdir(Path(store.layers.path(base)) / "fs"))
    assert found == everything - set(victims) | {"added"}


def layout(store: Store, folder: Path, chain: list[DiffID]) -> None:
    """Write a minimal OCI layout by hand: the store's own writer is tested elsewhere."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    kind = "application/vnd.oci.image"
    layers = [
        put(b"".join(compressed(store.layers.stream_tar(d), "gzip")), f"{kind}.layer.v1.tar+gzip")
        for d in chain
    ]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": chain},
        "history": [{"created_by": "x"} for _ in chain],
    }
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), f"{kind}.config.v1+json"),
        "layers": layers,
    }
    entry = put(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "test"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
