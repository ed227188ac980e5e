"""Paths inside a root: openat2 and the walk that replaces it must agree, and never lead out."""

import errno
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.launch.resolve import open_in_root, read_regular, walk


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    base = tmp_path_factory.mktemp("resolve")
    (base / "secret").write_text("outside")
    inside = base / "root"
    (inside / "a/b").mkdir(parents=True)
    (inside / "a/file").write_text("inside")
    (inside / "secret").write_text("inside the root")
    for name, target in {
        "up": "../../../../secret",
        "absolute": "/a/file",
        "host": str(base / "secret"),
        "dir": "a/b",
        "a/b/back": "../..",
        "loop": "loop",
        "dangling": "nothing",
        "chain": "dir/back/absolute",
    }.items():
        (inside / name).symlink_to(target)
    fd = os.open(inside, os.O_RDONLY)
    yield fd
    os.close(fd)


def outcome(opener, root, path, **options):
    try:
        fd = opener(root, path, os.O_PATH, **options)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    try:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino
    finally:
        os.close(fd)


NAMES = (
    *("a", "b", "file", "secret", "up", "absolute", "host", "dir", "back", "loop", "dangling"),
    *("chain", "..", ".", "", "missing"),
)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(NAMES), max_size=6), st.booleans(), st.booleans())
def test_the_walk_does_what_openat2_does(root, parts, absolute, follow):
    path = ("/" if absolute else "") + "/".join(parts)
    if path.endswith("/") and path.strip("/"):
        path = path.rstrip("/")
    assert outcome(walk, root, path, follow=follow) == outcome(
        open_in_root, root, path, follow=follow
    )


@pytest.mark.parametrize("opener", [walk, open_in_root])
def test_nothing_leads_out(root, opener):
    for path in ("up", "/up", "../secret", "a/b/back/../../secret"):
        fd = opener(root, path, os.O_RDONLY)
        assert os.read(fd, 100) == b"inside the root"
        os.close(fd)
    with pytest.raises(FileNotFoundError):
        opener(root, "host", os.O_RDONLY)


def test_read_regular(root, tmp_path):
    assert read_regular(root, "a/file", 100) == b"inside"
    assert read_regular(root, "/absolute", 100) == b"inside"
    assert read_regular(root, "missing", 100) is None
    assert read_regular(root, "a", 100) is None
    assert read_regular(root, "loop", 100) is None
    with pytest.raises(OSError, match="more than 3 bytes"):
        read_regular(root, "a/file", 3)
    os.mkfifo(tmp_path / "fifo")
    other = os.open(tmp_path, os.O_RDONLY)
    assert read_regular(other, "fifo", 100) is None
    os.close(other)


def test_magic_links_are_refused():
    proc = os.open("/proc", os.O_RDONLY)
    for opener in (walk, open_in_root):
        with pytest.raises(OSError, match=r"symbolic links|Invalid cross-device"):
            opener(proc, "self/root", os.O_RDONLY)
    os.close(proc)


def test_descriptors_are_closed(root):
    before = os.listdir("/proc/self/fd")
    for path in ("chain", "loop", "missing", "a/b/back/a"):
        outcome(walk, root, path)
    assert os.listdir("/proc/self/fd") == before
    assert stat.S_ISDIR(os.fstat(root).st_mode)
