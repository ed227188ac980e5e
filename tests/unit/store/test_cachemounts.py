"""Cache mounts: who gets which directory, and what clearing one does."""

import os
import time
from pathlib import Path

import pytest

from store.cachemounts import CacheMountKey, CacheMounts, Instance
from store.errors import NotFound
from store.locks import acquire
from store.root import Store

KEY = CacheMountKey("/root/.cache")


class GaveUp(Exception):
    pass


def give_up(_seconds: float) -> None:
    raise GaveUp


@pytest.fixture
def mounts(tmp_path: Path) -> CacheMounts:
    return Store.open(tmp_path / "store").cache_mounts


def use(mounts: CacheMounts, sharing: str = "shared", key: CacheMountKey = KEY) -> Instance:
    return mounts.use(key, sharing=sharing, make=os.mkdir, wait=give_up)


def test_a_directory_is_there_again(mounts: CacheMounts) -> None:
    first = use(mounts)
    Path(first.path, "f").write_text("kept")
    first.close()
    again = use(mounts, "locked")
    assert Path(again.path, "f").read_text() == "kept"
    assert not os.get_inheritable(again.lock_fd)


def test_shared_ones_are_one(mounts: CacheMounts) -> None:
    assert use(mounts).path == use(mounts).path


def test_private_ones_are_apart_and_used_again(mounts: CacheMounts) -> None:
    first, second = use(mounts, "private"), use(mounts, "private")
    assert first.path != second.path
    second.close()
    assert use(mounts, "private").path == second.path


def test_one_that_is_used_alone_is_not_shared(mounts: CacheMounts) -> None:
    alone = use(mounts, "private")
    assert use(mounts).path != alone.path


def test_a_locked_one_is_waited_for(mounts: CacheMounts) -> None:
    first = use(mounts, "locked")
    with pytest.raises(GaveUp):
        use(mounts, "locked")
    waited: list[float] = []

    def let_go(seconds: float) -> None:
        waited.append(seconds)
        first.close()

    second = mounts.use(KEY, sharing="locked", make=os.mkdir, wait=let_go)
    assert (second.path, len(waited)) == (first.path, 1)


def test_whoever_inherited_the_lock_holds_it(mounts: CacheMounts) -> None:
    first = use(mounts, "locked")
    inherited = os.dup(first.lock_fd)
    first.close()
    with pytest.raises(GaveUp):
        use(mounts, "locked")
    os.close(inherited)
    assert use(mounts, "locked").path == first.path


def test_another_base_is_another_mount(mounts: CacheMounts) -> None:
    other = CacheMountKey(KEY.id, "sha256:1")
    assert use(mounts, key=other).path != use(mounts).path
    assert [info.key for info in mounts.find(KEY.id)] == [KEY, other]


def test_clearing_deletes_nothing_in_use(mounts: CacheMounts) -> None:
    first = use(mounts)
    assert mounts.clear(KEY) == 0
    fresh = use(mounts)
    assert fresh.path != first.path
    assert os.path.isdir(first.path)
    assert [info.paths for info in mounts.mounts()] == [(fresh.path,)]
    first.close()
    mounts.sweep()
    assert not os.path.exists(first.path)
    assert os.path.isdir(fresh.path)


def test_clearing_takes_unused_ones_away(mounts: CacheMounts) -> None:
    use(mounts).close()
    assert mounts.clear(KEY) == 1
    assert mounts.mounts() == []
    with pytest.raises(NotFound):
        mounts.find(KEY.id)
    assert mounts.clear(KEY) == 0


def test_what_cannot_be_made_is_not_there(mounts: CacheMounts) -> None:
    def broken(path: str) -> None:
        os.mkdir(path)
        raise GaveUp

    with pytest.raises(GaveUp):
        mounts.use(KEY, sharing="shared", make=broken, wait=give_up)
    assert os.listdir(Path(mounts._root).parent / "tmp") == []
    use(mounts)


def test_a_damaged_record_begins_anew(mounts: CacheMounts) -> None:
    use(mounts).close()
    (record,) = Path(mounts._root).glob("*/record.json")
    record.write_text("{")
    assert mounts.mounts() == []
    assert os.listdir(use(mounts).path) == []


def test_a_damaged_record_can_be_cleared(mounts: CacheMounts) -> None:
    held = use(mounts)
    (record,) = Path(mounts._root).glob("*/record.json")
    record.write_text("{")
    assert mounts.clear(KEY) == 0
    anew = use(mounts)
    assert anew.path != held.path
    assert os.path.isdir(held.path)


def test_the_time_of_use_is_known(mounts: CacheMounts) -> None:
    before = time.time_ns() - 1_000_000_000
    use(mounts).close()
    (info,) = mounts.mounts()
    assert before < info.used_ns
    os.utime(Path(info.paths[0]).parent / "lock", (1, 1))
    assert mounts.mounts()[0].used_ns == 1_000_000_000
    use(mounts).close()
    assert before < mounts.mounts()[0].used_ns


def test_the_mounts_own_lock_is_waited_for(mounts: CacheMounts, tmp_path: Path) -> None:
    fd = acquire(str(tmp_path / "store/locks" / f"cachemount-{KEY.name}"))
    with pytest.raises(GaveUp):
        use(mounts)
    os.close(fd)
    use(mounts)
