"""Kills at every step of a commit, and full disks: the store is sound after each."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from store import aliases
from store.checkpoint import VARIABLE
from store.digest import digest_of
from store.root import Store
from store.tarwriter import END, Header, encode, padding

pytestmark = pytest.mark.kernel


def file(name: str, data: bytes = b"") -> bytes:
    header = Header(name.encode(), b"0", 0o644, size_bytes=len(data), mtime_s=2)
    return encode(header) + data + padding(len(data))


BASE = encode(Header(b"tmp/", b"5", 0o1777)) + file("data", b"x" * 100_000) + END

COMMIT = """
active = store.snapshots.prepare([])
os.mkdir(active.upper + "/d")
open(active.upper + "/d/file", "w").write("x" * 100_000)
os.utime(active.upper + "/d/file", (1, 1)); os.utime(active.upper + "/d", (1, 1))
active.commit()
"""
UNPACK = "store.layers.unpack([sys.stdin.buffer.read()])"
PUT = "store.content.put(b'x' * 100_000)"
CHAIN = """
base = store.layers.unpack([sys.stdin.buffer.read()])
header = __import__("store.tarwriter", fromlist=["x"])
top = store.layers.unpack([header.encode(header.Header(b"tmp/foo", b"0")) + header.END])
store.layers.lower_path([base, top])
"""

POINTS = [
    (PUT, "blob-synced"),
    (PUT, "blob-renamed"),
    (UNPACK, "layer-unpacked"),
    (UNPACK, "layer-recorded"),
    (UNPACK, "layer-renamed"),
    (COMMIT, "layer-hashed"),
    (COMMIT, "layer-recorded"),
    (COMMIT, "layer-renamed"),
    (CHAIN, "chain-composed"),
]

IDS = [f"{number}-{point}" for number, (_, point) in enumerate(POINTS)]


def run(root: Path, work: str, point: str | None) -> int:
    code = f"import os, sys\nfrom store.root import Store\nstore = Store.open(sys.argv[1])\n{work}"
    environment = dict(os.environ)
    if point is not None:
        environment[VARIABLE] = point
    done = subprocess.run(
        [sys.executable, "-c", code, root],
        input=BASE,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr.decode()
    return done.returncode


def check(store: Store) -> None:
    """Everything that has a name holds what the name says, and a collector leaves nothing else."""
    with store.exclusive_lease():
        store.recover()
    for digest in store.content.iter():
        assert digest_of(store.content.get(digest)) == digest
    for diff_id in store.layers.iter():
        assert store.layers.has(diff_id)
        tar = b"".join(store.layers.stream_tar(diff_id))
        assert f"sha256:{hashlib.sha256(tar).hexdigest()}" == diff_id
        assert len(os.listdir(Path(store.root) / store.layers.lower_path([diff_id])[0])) > 0
    for name in ("tmp", "trash", "snapshots"):
        assert os.listdir(Path(store.root) / name) == []
    aliases_left = {os.readlink(path) for path in (Path(store.root) / "l").iterdir()}
    trees = {
        f"../{folder}/sha256/{name}/fs"
        for folder in ("layers", "chains")
        for name in os.listdir(Path(store.root) / folder / "sha256")
        if (Path(store.root) / folder / "sha256" / name / "fs").exists()
    }
    assert aliases_left == trees


@pytest.mark.parametrize(("work", "point"), POINTS, ids=IDS)
def test_a_kill_leaves_the_store_sound(tmp_path: Path, work: str, point: str) -> None:
    root = tmp_path / "store"
    assert run(root, work, point) == -9
    store = Store.open(root)
    check(store)
    before = list(store.layers.iter()), list(store.content.iter())
    assert run(root, work, None) == 0
    check(store)
    after = list(store.layers.iter()), list(store.content.iter())
    assert all(set(old) <= set(new) for old, new in zip(before, after, strict=True))


def test_a_kill_while_a_store_is_made(tmp_path: Path) -> None:
    (tmp_path / "store/locks").mkdir(parents=True)
    check(Store.open(tmp_path / "store"))


def test_dead_aliases_are_swept(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    aliases.make(store.folder, "layers/sha256/gone/fs")
    check(store)


SMALL = """
import os, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "-o", sys.argv[2], "tmpfs", sys.argv[1]], check=True)
from store.errors import DiskFull, StoreError
from store.root import Store
store = Store.open(sys.argv[1])
{before}
try:
    {work}
except DiskFull as error:
    print(error, "|", error.hint)
else:
    raise SystemExit("no error")
def left(name):
    return os.listdir(os.path.join(sys.argv[1], name))
store.folder.sweep()
assert left("tmp") == left("trash") == left("layers/sha256") == left("blobs/sha256") == left("l"), (
    left("tmp"), left("trash"), left("layers/sha256"), left("l"))
assert left("snapshots") == []
assert store.content.get(store.content.put(b"still works")) == b"still works"
"""

FULL = {
    "a blob": ("", "store.content.ingest([bytes(1 << 20)] * 20)"),
    "a layer": (
        "from store.tarwriter import *\nhead = encode(Header(b'big', b'0', size_bytes=20 << 20))",
        "store.layers.unpack([head, *[bytes(1 << 20)] * 20, END])",
    ),
    "a commit": (
        "active = store.snapshots.prepare([])\n"
        "for number in range(1000):\n"
        "    open(f'{active.upper}/{os.urandom(100).hex()}', 'w')\n"
        "fd = os.open(sys.argv[1] + '/ballast', os.O_CREAT | os.O_WRONLY)\n"
        "try:\n"
        "    while os.write(fd, bytes(4096)): pass\n"
        "except OSError: os.close(fd)\n",
        "\n    try: active.commit()\n"
        "    finally: active.discard(); os.remove(sys.argv[1] + '/ballast')",
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_one_clear_error(tmp_path: Path, name: str) -> None:
    before, work = FULL[name]
    (tmp_path / "small").mkdir()
    code = SMALL.format(before=before, work=work)
    command = ["unshare", "-m", "--propagation", "private", sys.executable, "-c", code]
    done = subprocess.run(
        [*command, str(tmp_path / "small"), "size=8m"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text, _, hint = done.stdout.partition(" | ")
    assert text.endswith(f"no space left on device on {tmp_path}/small")
    assert "free some space" in hint
