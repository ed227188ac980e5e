import marshal
import os
from pathlib import Path

import pytest

from builder import derived
from builder.looked import stamp_of
from builder.statcache import StatCache, can_be_trusted, file_system_of, is_settled
from builder.tree import FileChanged

SECOND = 1_000_000_000


def test_a_young_stamp_is_not_trusted() -> None:
    now = 1_700_000_000_500_000_000
    assert not is_settled((1, 2, 3, now - 1000, now - 1000), now)
    assert is_settled((1, 2, 3, now - SECOND + 1, now - SECOND + 1), now)


def test_whole_second_stamps_need_longer() -> None:
    now = 1_700_000_001_000_000_000
    whole = 1_700_000_000_000_000_000
    assert not is_settled((1, 2, 3, whole, whole), now)


@pytest.mark.parametrize("name", ["fuse.sshfs", "9p", "nfs4", ""])
def test_some_file_systems_are_never_trusted(name: str) -> None:
    assert not can_be_trusted(name)


def test_the_file_system_of_a_path_is_known() -> None:
    assert file_system_of("/proc/self") == "proc"


def old_file(folder: Path, text: str) -> Path:
    """Return a file whose ctime the cache believes: it waits until the clock has moved on."""
    path = folder / "f"
    path.write_text(text)
    while not is_settled(stamp_of(path.stat()), __import__("time").time_ns()):
        os.stat(path)
    return path


def test_a_digest_is_remembered_for_the_same_state_only(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    path = old_file(tree, "one")
    cache = StatCache(str(tmp_path / "cache"), str(tree))
    first = cache.digest(str(path), "f", stamp_of(path.stat()))
    cache.save()
    again = StatCache(str(tmp_path / "cache"), str(tree))
    # The bytes are not read: a path that does not exist would fail.
    assert again.digest("/nonexistent/f", "f", stamp_of(path.stat())) == first
    path.write_text("two")
    third = StatCache(str(tmp_path / "cache"), str(tree))
    assert third.digest(str(path), "f", stamp_of(path.stat())) != first


def test_a_file_that_is_not_as_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("one")
    stamp = stamp_of(path.stat())
    path.write_text("three")
    with pytest.raises(FileChanged):
        StatCache(str(tmp_path / "cache"), str(tmp_path)).digest(str(path), "f", stamp)


def test_a_damaged_cache_is_ignored(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    path = old_file(tree, "one")
    cache = StatCache(str(tmp_path / "cache"), str(tree))
    first = cache.digest(str(path), "f", stamp_of(path.stat()))
    cache.save()
    (stored,) = (tmp_path / "cache").iterdir()
    stored.write_bytes(b"\xff\x00garbage")
    again = StatCache(str(tmp_path / "cache"), str(tree))
    assert again.digest(str(path), "f", stamp_of(path.stat())) == first


def test_digests_of_another_version_are_not_taken(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    path = old_file(tree, "one")
    cache = StatCache(str(tmp_path / "cache"), str(tree))
    first = cache.digest(str(path), "f", stamp_of(path.stat()))
    cache.save()
    (stored,) = (tmp_path / "cache").iterdir()
    version, known = marshal.loads(derived.read(str(stored)) or b"")
    other = ((99, *version[1:]), {"f": (known["f"][0], "sha256:other")})
    derived.write(str(stored), marshal.dumps(other))
    again = StatCache(str(tmp_path / "cache"), str(tree))
    assert again.digest(str(path), "f", stamp_of(path.stat())) == first
