"""What overlayfs itself makes of our layers, and what our layers make of what overlayfs did."""

import hashlib
import io
import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.digest import DiffID
from store.errors import InUse, StoreError
from store.mount import OverlayMount
from store.root import Store
from store.tarwriter import END, Header, encode, padding

pytestmark = pytest.mark.kernel

EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def directory(name: str, mode: int = 0o755) -> bytes:
    return encode(Header(name.encode() + b"/", b"5", mode, mtime_s=1))


def file(name: str, data: bytes = b"") -> bytes:
    header = Header(name.encode(), b"0", 0o644, size_bytes=len(data), mtime_s=2)
    return encode(header) + data + padding(len(data))


def add(store: Store, *entries: bytes) -> DiffID:
    return store.layers.unpack([b"".join(entries) + END])


def mounted(mount: OverlayMount, script: str) -> str:
    """Run a Python script inside the mounted tree, in a mount namespace of its own."""
    lowers = [*mount.lowers, *([mount.stubs] if mount.stubs else [])]
    options = f"lowerdir={':'.join(lowers)},metacopy=off,redirect_dir=off,index=off"
    if mount.upper:
        options += f",upperdir={mount.upper},workdir={mount.work}"
    command = ["mount", "-t", "overlay", "-o", options, "overlay", "mnt"]
    if not mount.upper and len(lowers) == 1:
        command = ["mount", "--bind", "-o", "ro", lowers[0], "mnt"]
    prelude = (
        "import os, stat, subprocess\n"
        f"os.chdir({mount.base!r})\n"
        "os.makedirs('mnt', exist_ok=True)\n"
        f"subprocess.run({command!r}, check=True)\n"
        "os.chdir('mnt')\n"
    )
    end = "\nos.chdir('..')\nsubprocess.run(['umount', 'mnt'], check=True)\n"
    command = ["unshare", "-m", "--propagation", "private", sys.executable, "-c"]
    done = subprocess.run(
        [*command, prelude + script + end], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    os.rmdir(f"{mount.base}/mnt")
    return done.stdout


def run(store: Store, chain: list[DiffID], script: str, *, stubs: bool = False) -> DiffID:
    """Do what a RUN does: change the mounted tree, commit it, check the layer every way."""
    if not chain:
        chain = [add(store, directory("base"))]
    with store.snapshots.prepare(chain, stubs=stubs) as active:
        mounted(active.mount, script)
        info = active.commit()
    check(store, info.diff_id)
    return info.diff_id


def check(store: Store, diff_id: DiffID) -> None:
    """Recompute the digest, and unpack the stream into the same tree."""
    tar = b"".join(store.layers.stream_tar(diff_id))
    assert f"sha256:{hashlib.sha256(tar).hexdigest()}" == diff_id
    assert store.layers.info(diff_id).size_bytes == len(tar)
    before = snapshot(Path(store.layers.path(diff_id)) / "fs")
    with Store.open(f"{store.root}-again") as again:
        assert again.layers.unpack([tar], expected=diff_id) == diff_id
        assert snapshot(Path(again.layers.path(diff_id)) / "fs") == before
        ours, theirs = store.layers.record(diff_id), again.layers.record(diff_id)
        assert (ours.whiteouts, ours.info.files) == (theirs.whiteouts, theirs.info.files)
        again.layers.remove(diff_id)


def snapshot(top: Path) -> dict[str, object]:
    """Return everything that a layer's tree says, by path."""
    found: dict[str, object] = {}
    inodes: dict[int, str] = {}
    for folder, names, files in os.walk(os.fsencode(top)):
        for name in [b".", *names, *files] if folder == os.fsencode(top) else [*names, *files]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            key = os.fsdecode(os.path.relpath(path, os.fsencode(top)))
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif not stat.S_ISDIR(status.st_mode):
                content = status.st_rdev
            xattrs = {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
            group = None
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                group = inodes.setdefault(status.st_ino, min(linked(top, status.st_ino)))
            is_mark = stat.S_ISCHR(status.st_mode) and not status.st_rdev
            times = None if is_mark else status.st_mtime_ns
            mode = None if is_mark else status.st_mode
            group = None if is_mark else group
            found[key] = (mode, status.st_uid, status.st_gid, times, content, xattrs, group)
    return found


def linked(top: Path, inode: int) -> list[str]:
    return [
        os.path.relpath(os.path.join(folder, name), top)
        for folder, _, names in os.walk(top)
        for name in names
        if os.lstat(os.path.join(folder, name)).st_ino == inode
    ]


def names(store: Store, diff_id: DiffID) -> list[str]:
    tar = io.BytesIO(b"".join(store.layers.stream_tar(diff_id)))
    with tarfile.open(fileobj=tar, errors="surrogateescape") as archive:
        return archive.getnames()


def listing(store: Store, chain: list[DiffID]) -> list[str]:
    script = (
        "for folder, names, files in os.walk('.'):\n"
        "    for name in names + files:\n"
        "        print(os.path.join(folder, name)[2:])\n"
    )
    return sorted(mounted(store.snapshots.view(chain), script).split())


# -- deletions -------------------------------------------------------------------------------


def test_deletions_come_and_go(store: Store) -> None:
    base = add(store, directory("d"), file("d/a"), file("d/b"), file("top"), directory("e"))
    layer = run(store, [base], "os.remove('d/a'); os.remove('top'); os.rmdir('e')")
    assert names(store, layer) == ["d", "d/.wh.a", ".wh.e", ".wh.top"]
    assert listing(store, [base, layer]) == ["d", "d/b"]
    assert store.layers.record(layer).whiteouts == 3


def test_a_directory_made_anew_is_opaque(store: Store) -> None:
    base = add(store, directory("d"), file("d/a"), directory("d/sub"), file("d/sub/x"))
    script = "subprocess.run(['rm', '-r', 'd']); os.mkdir('d'); open('d/new', 'w')"
    layer = run(store, [base], script)
    assert names(store, layer) == ["d", "d/.wh..wh..opq", "d/new"]
    assert listing(store, [base, layer]) == ["d", "d/new"]


def test_a_directory_over_a_file_is_not_opaque_in_the_layer(store: Store) -> None:
    base = add(store, file("x", b"file"))
    layer = run(store, [base], "os.remove('x'); os.mkdir('x'); open('x/y', 'w')")
    assert names(store, layer) == ["x", "x/y"]
    tree = Path(store.layers.path(layer)) / "fs"
    assert os.listxattr(tree / "x") == []


def test_what_came_and_went_in_the_same_step_leaves_no_mark(store: Store) -> None:
    base = add(store, directory("d"))
    layer = run(store, [base], "open('d/x', 'w'); os.remove('d/x'); open('y', 'w')")
    assert names(store, layer) == ["d", "y"]


def test_marks_left_by_hand_are_dropped(store: Store) -> None:
    base = add(store, directory("d"), file("d/a"))
    with store.snapshots.prepare([base]) as active:
        os.mkdir(f"{active.upper}/d")
        os.mknod(f"{active.upper}/d/a", stat.S_IFCHR, 0)
        os.mknod(f"{active.upper}/d/nothing", stat.S_IFCHR, 0)
        os.mkdir(f"{active.upper}/new")
        os.mknod(f"{active.upper}/new/nothing", stat.S_IFCHR, 0)
        os.setxattr(f"{active.upper}/new", "trusted.overlay.opaque", b"y")
        layer = active.commit().diff_id
    assert names(store, layer) == ["d", "d/.wh.a", "new"]
    tree = Path(store.layers.path(layer)) / "fs"
    assert os.listdir(tree / "new") == []
    assert os.listxattr(tree / "new") == []
    check(store, layer)


def test_deletions_of_mount_points_are_no_changes(store: Store) -> None:
    base = add(store, directory("bin"))
    layer = run(store, [base], "os.remove('etc/hosts'); open('etc/mine', 'w')", stubs=True)
    assert names(store, layer) == ["etc", "etc/mine"]


def test_a_pulled_layers_marks(store: Store) -> None:
    base = add(store, directory("d"), file("d/a"), file("d/b"), directory("e"), file("e/f"))
    pulled = add(
        store,
        directory("d"),
        file("d/.wh.a"),
        file("d/.wh.never"),
        directory("e"),
        file("e/.wh..wh..opq"),
        file("e/.wh.f"),
        file("e/g"),
    )
    assert listing(store, [base, pulled]) == ["d", "d/b", "e", "e/g"]
    assert listing(store, [pulled]) == ["d", "e", "e/g"]
    # Through two layers: what the middle one deleted must not come back.
    again = add(store, directory("d"), file("d/a", b"back"))
    assert listing(store, [base, pulled, again]) == ["d", "d/a", "d/b", "e", "e/g"]


def test_128_layers_are_mounted(store: Store) -> None:
    chain = [add(store, file(f"f{number}", b"x")) for number in range(128)]
    assert len(listing(store, chain)) == 128


# -- attributes ------------------------------------------------------------------------------

EVERYTHING = """
os.makedirs('d/sub')
open('d/file', 'wb').write(b'x' * 5000)
os.link('d/file', 'd/same'); os.link('d/file', 'sub-link')
os.chown('d/file', 3_000_000_000, 2_500_000)
os.chmod('d/file', 0o6755)
os.setxattr('d/file', 'security.capability', bytes.fromhex('CAPABILITY'))
os.setxattr('d/file', 'user.note', b'\\0=\\n')
os.setxattr('d', 'user.dir', b'y')
os.mkfifo('d/fifo', 0o640)
os.mknod('d/null', stat.S_IFCHR | 0o666, os.makedev(1, 3))
os.mknod('d/loop', stat.S_IFBLK | 0o660, os.makedev(7, 300))
os.symlink('nowhere' * 30, 'd/link')
os.lchown('d/link', 7, 8)
open(b'd/\\xff\\xfe', 'w'); os.mkdir(b'd/\\xe9'); open(b'd/\\xe9/in', 'w')
open('d/' + 'n' * 255, 'w')
deep = '/'.join(['l' * 60] * 8); os.makedirs(deep); open(deep + '/end', 'w')
open('d/line\\nbreak', 'w')
fd = os.open('d/holes', os.O_WRONLY | os.O_CREAT)
os.pwrite(fd, b'start', 0); os.pwrite(fd, b'middle', 5_000_000); os.ftruncate(fd, 9_000_000)
os.close(fd)
os.chmod('d/sub', 0o1777)
os.utime('d/file', ns=(1, 1_234_567_890_987_654_321))
os.utime('d/link', ns=(1, -1_500_000_000), follow_symlinks=False)
os.utime('d/fifo', (0, 1 << 33))
os.utime('d/sub', ns=(1, 5_999_999_999))
""".replace("CAPABILITY", CAPABILITY.hex())


def test_everything_a_tree_can_hold(store: Store) -> None:
    layer = run(store, [], EVERYTHING)
    tree = Path(store.layers.path(layer)) / "fs"
    status = (tree / "d/file").stat()
    assert (status.st_uid, status.st_gid, status.st_nlink) == (3_000_000_000, 2_500_000, 3)
    assert stat.S_IMODE(status.st_mode) == 0o6755
    assert status.st_mtime_ns == 1_234_567_890_000_000_000
    assert os.getxattr(tree / "d/file", "security.capability") == CAPABILITY
    assert os.getxattr(tree / "d/file", "user.note") == b"\0=\n"
    assert (tree / "d/link").lstat().st_mtime == -2
    assert (tree / "d/fifo").lstat().st_mtime == 1 << 33
    assert (tree / "d/sub").stat().st_mtime == 5
    assert (tree / "d/holes").stat().st_blocks < 200
    for path in tree.rglob("*"):
        assert path.lstat().st_mtime_ns % 1_000_000_000 == 0
        found = os.listxattr(path, follow_symlinks=False)
        assert not [name for name in found if name.startswith("trusted.")]


def test_two_hands_make_the_same_layer(store: Store) -> None:
    """The order in which a disk gives names must not matter, nor the time of the commit."""
    base = add(store, directory("base"))
    script = "import random\nnames = [f'n{n}' for n in range(300)]\nrandom.shuffle(names)\n"
    script += "for name in names: open(name, 'w').write(name); os.utime(name, (1, 1))\n"
    assert run(store, [base], script) == run(store, [base], script)


def test_a_changed_root_is_lost_as_in_containerd(store: Store) -> None:
    base = add(store, directory("base"))
    layer = run(store, [base], "os.chmod('.', 0o700); os.setxattr('.', 'user.x', b'y')")
    assert layer == EMPTY


def test_nothing_changed_is_the_empty_layer(store: Store) -> None:
    base = add(store, directory("base"))
    assert run(store, [base], "os.listdir('base')", stubs=True) == EMPTY
    assert store.layers.lower_path([base, DiffID(EMPTY)]) == store.layers.lower_path([base])


def test_sockets_are_left_out_with_a_warning(store: Store) -> None:
    with store.snapshots.prepare([]) as active:
        server = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(active.upper)
        server.bind("socket")
        os.chdir(here)
        server.close()
        Path(active.upper, "file").write_text("x")
        info = active.commit()
        assert active.warnings == ("socket /socket is not kept in the layer",)
    assert names(store, info.diff_id) == ["file"]
    check(store, info.diff_id)


def test_acls_do_not_stay_behind_in_the_tree(store: Store) -> None:
    acl = bytes.fromhex("0200000001000600ffffffff020004000100000004000400ffffffff")
    acl += bytes.fromhex("10000600ffffffff20000400ffffffff")
    with store.snapshots.prepare([]) as active:
        Path(active.upper, "file").write_text("x")
        os.setxattr(f"{active.upper}/file", "system.posix_acl_access", acl)
        info = active.commit()
        assert len(active.warnings) == 1
    check(store, info.diff_id)


@pytest.mark.parametrize("name", [".wh.x", ".wh..wh..opq", ".wh."])
def test_names_that_mean_deletion_are_refused(store: Store, name: str) -> None:
    with store.snapshots.prepare([]) as active:
        Path(active.upper, "d").mkdir()
        Path(active.upper, "d", name).write_text("x")
        with pytest.raises(StoreError, match=r"commit layer: /d/\.wh\.") as caught:
            active.commit()
        assert caught.value.hint
    assert list(store.layers.iter()) == []
    assert os.listdir(Path(store.root) / "snapshots") == []


def test_redirects_are_refused(store: Store) -> None:
    with store.snapshots.prepare([]) as active:
        os.mkdir(f"{active.upper}/d")
        os.setxattr(f"{active.upper}/d", "trusted.overlay.redirect", b"/x")
        with pytest.raises(StoreError, match="its content lies in another layer"):
            active.commit()


def test_deep_trees(store: Store) -> None:
    with store.snapshots.prepare([]) as active:
        fd = os.open(active.upper, os.O_RDONLY)
        for _ in range(400):
            os.mkdir("deep", dir_fd=fd)
            below = os.open("deep", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
        info = active.commit()
    assert info.files == 401
    check(store, info.diff_id)


# -- owners and survivors --------------------------------------------------------------------


def test_a_survivor_that_holds_the_lock_stops_the_commit(store: Store) -> None:
    with store.snapshots.prepare([]) as active:
        Path(active.upper, "file").write_text("x")
        survivor = subprocess.Popen(["sleep", "60"], pass_fds=(active.lock_fd,))
        try:
            with pytest.raises(InUse, match="a process of the step is still there"):
                active.commit()
        finally:
            survivor.kill()
            survivor.wait()
    assert list(store.layers.iter()) == []


def test_abandoned_snapshots_are_recovered_and_kept_ones_stay(store: Store) -> None:
    code = (
        "import sys, os\nfrom store.root import Store\n"
        "store = Store.open(sys.argv[1])\n"
        "active = store.snapshots.prepare([])\n"
        "open(active.upper + '/left', 'w')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, store.root], check=False)
    with store.snapshots.prepare([]) as active:
        kept = active.keep()
        Path(active.upper, "mine").write_text("x")
    left = set(os.listdir(Path(store.root) / "snapshots")) - {kept}
    assert len(left) == 1
    with store.exclusive_lease():
        assert store.recover() == [*left]
    assert store.snapshots.kept() == [kept]
    with store.snapshots.reopen(kept) as active:
        assert os.listdir(active.upper) == ["mine"]
        with pytest.raises(InUse):
            store.snapshots.reopen(kept)
        with pytest.raises(InUse):
            store.snapshots.remove(kept)
    store.snapshots.remove(kept)
    assert os.listdir(Path(store.root) / "snapshots") == []


def test_a_volatile_mount_can_be_mounted_again(store: Store) -> None:
    base = add(store, directory("base"))
    with store.snapshots.prepare([base], volatile=True) as active:
        assert active.mount.volatile
        kept = active.keep()
        incompat = Path(store.root, "snapshots", kept, "work/work/incompat/volatile")
        incompat.mkdir(parents=True)
    with store.snapshots.reopen(kept) as active:
        mounted(active.mount, "open('x', 'w')")
        layer = active.commit().diff_id
    assert names(store, layer) == ["x"]
    assert store.snapshots.kept() == []


def test_layer_json_is_plain(store: Store) -> None:
    layer = run(store, [], "open('x', 'w')")
    value = json.loads((Path(store.layers.path(layer)) / "layer.json").read_bytes())
    assert (value["version"], value["diff_id"], value["fidelity"]) == (1, layer, "full")
