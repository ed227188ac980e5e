"""Detached mounts of what the store describes."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime import mounting
from runtime.errors import InvalidSpec, MountFailed
from runtime.linux import overlay
from runtime.mounting import open_overlay
from runtime.rootfs import root_plan
from store.mount import OverlayMount

pytestmark = pytest.mark.kernel


# What the old call can stack is less; see runtime/linux/overlay.
MOST = 960 if overlay._HAS_LOWERDIR_PLUS else 800


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    """961 layers with a file of their own and one that each replaces."""
    base = tmp_path_factory.mktemp("layers") / ("long name " * 20).strip() / "store"
    (base / "l").mkdir(parents=True)
    for number in range(961):
        layer = base / "layers" / f"{number:064x}" / "fs"
        layer.mkdir(parents=True)
        (layer / f"own{number}").touch()
        (layer / "shared").write_text(str(number))
        (base / "l" / f"{number}").symlink_to(f"../layers/{number:064x}/fs")
    return base


@pytest.fixture
def store(layers):
    """The layers, and an upper and a work directory that are new."""
    for name in ("upper", "work"):
        (layers / name).mkdir()
    yield layers
    for name in ("upper", "work"):
        shutil.rmtree(layers / name)


def lowers(count: int) -> tuple[str, ...]:
    return tuple(f"l/{number}" for number in reversed(range(count)))


def read(fd: int, name: str) -> str:
    with open(os.open(name, os.O_RDONLY, dir_fd=fd)) as file:
        return file.read()


@pytest.mark.parametrize("count", [1, 2, 128, 480, 481, 500, MOST])
def test_layers_are_stacked_topmost_first(store, count):
    fd = open_overlay(OverlayMount(str(store), lowers(count)))
    assert len(os.listdir(fd)) == count + 1
    assert read(fd, "shared") == str(count - 1)
    with pytest.raises(OSError, match="Read-only"):
        os.mkdir("x", dir_fd=fd)
    os.close(fd)


@pytest.mark.parametrize("count", [0, 1, 128, 500])
def test_writes_go_to_the_upper_directory(store, count):
    fd = open_overlay(OverlayMount(str(store), lowers(count), "upper", "work"))
    os.mkdir("made", dir_fd=fd)
    os.close(fd)
    assert os.listdir(store / "upper") == ["made"]
    assert not any((store / "l" / str(n) / "made").exists() for n in range(count))


def test_closing_unmounts(store):
    mount = OverlayMount(str(store), lowers(2), "upper", "work", volatile=True)
    fd = open_overlay(mount)
    # A volatile mount leaves a mark in its work directory, which refuses a second one.
    with pytest.raises(MountFailed):
        os.close(open_overlay(mount))
    os.close(fd)


def test_the_host_sees_no_mount(store):
    before = Path("/proc/self/mountinfo").read_text()
    fd = open_overlay(OverlayMount(str(store), lowers(3)))
    assert Path("/proc/self/mountinfo").read_text() == before
    os.close(fd)


def test_options_that_keep_layers_independent(store):
    """With metacopy or redirect_dir a layer would mean nothing without those below it."""
    fd = open_overlay(OverlayMount(str(store), lowers(2), "upper", "work"))
    os.chmod("shared", 0o600, dir_fd=fd)
    os.mkdir("dir", dir_fd=fd)
    os.close(fd)
    assert (store / "upper/shared").read_text() == "1"
    assert not [x for x in os.listxattr(store / "upper/shared") if "metacopy" in x]


def test_from_many_threads(store):
    def one(number: int) -> str:
        fd = open_overlay(OverlayMount(str(store), lowers(number + 1)))
        try:
            return read(fd, "shared")
        finally:
            os.close(fd)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(40))) == [str(number) for number in range(40)]


@pytest.mark.parametrize("count", [1, 2, 128, 400, 401, 402, 800])
def test_the_old_call_shows_the_same(store, count):
    """Kernels before 6.8 have no lowerdir+: mount(2) in a thread with its own namespace."""
    before = Path("/proc/self/mountinfo").read_text()
    tree = mounting._by_mount(root_plan(OverlayMount(str(store), lowers(count))))
    fd = os.open(".", os.O_RDONLY, dir_fd=tree)
    assert len(os.listdir(fd)) == count + 1
    assert read(fd, "shared") == str(count - 1)
    assert Path("/proc/self/mountinfo").read_text() == before
    os.close(fd)
    os.close(tree)


@pytest.mark.parametrize("open_it", [open_overlay, lambda m: mounting._by_mount(root_plan(m))])
def test_deletions_hold_across_the_floor(store, open_it):
    """What a layer above hides stays hidden, whether both lie on the floor, in it, or apart."""
    at = [store / "layers" / f"{number:064x}" / "fs" for number in range(600)]
    for hides, hidden in ((590, 2), (580, 570), (5, 1)):
        os.mknod(at[hides] / f"own{hidden}", 0o020000)  # a whiteout
    for number, name in ((0, "old"), (585, "new")):
        (at[number] / "d").mkdir()
        (at[number] / "d" / name).touch()
    os.setxattr(at[585] / "d", "trusted.overlay.opaque", b"y")
    fd = open_it(OverlayMount(str(store), lowers(600)))
    try:
        names = os.listdir(f"/proc/self/fd/{fd}")
        assert not {"own1", "own2", "own570"} & set(names)
        assert len(names) == 600 + 1 + 1 - 3
        assert os.listdir(f"/proc/self/fd/{fd}/d") == ["new"]
    finally:
        os.close(fd)
        for hides, hidden in ((590, 2), (580, 570), (5, 1)):
            os.unlink(at[hides] / f"own{hidden}")
        for number in (0, 585):
            shutil.rmtree(at[number] / "d")


def test_more_layers_than_can_be_stacked(store):
    with pytest.raises(MountFailed, match=f"961 layers, at most {MOST} can be stacked"):
        open_overlay(OverlayMount(str(store), lowers(961)))


def test_errors(store, tmp_path):
    with pytest.raises(MountFailed, match="No such file"):
        open_overlay(OverlayMount(str(tmp_path / "none"), ("a", "b")))
    with pytest.raises(MountFailed):
        open_overlay(OverlayMount(str(store), ("l/missing", "l/1")))
    with pytest.raises(InvalidSpec):
        open_overlay(OverlayMount(str(store), ()))
