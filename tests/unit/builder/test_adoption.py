"""Which recorded layer stands for one that was made again."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.adoption import Adoption, Window, instruction_of, remember
from builder.runmounts import BindMount
from builder.vertex import RunOp
from store.activesnapshot import Candidate
from store.buildrecords import BuildRecord
from store.digest import DiffID, Digest, digest_of
from store.root import Store

SECOND = 1_000_000_000
OLD = Window(1_000 * SECOND + 300_000_000, 1_002 * SECOND)
NEW = Window(2_000 * SECOND + 300_000_000, 2_001 * SECOND)
OP = RunOp(("make",), (), "/", "", "host", "h", "linux/amd64")
KEY = digest_of(b"old key")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def layer(store: Store, mtime: int, data: bytes = b"same", mode: int = 0o644) -> DiffID:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("f")
        member.mtime, member.size, member.mode = mtime, len(data), mode
        archive.addfile(member, io.BytesIO(data))
    return store.layers.unpack([buffer.getvalue()])


def record(store: Store, diff_id: DiffID, key: Digest = KEY, window: Window = OLD) -> BuildRecord:
    made = BuildRecord(
        key, (diff_id,), "then", started_ns=window.started_ns, ended_ns=window.ended_ns
    )
    store.records.insert(made)
    remember(store, instruction_of(OP, ()), key)
    return made


def adopted(store: Store, diff_id: DiffID, op: RunOp = OP, parent: tuple[DiffID, ...] = ()):
    search = Adoption(store, instruction_of(op, parent), NEW)
    chosen = search.choose(Candidate(store.layers.info(diff_id), None))
    assert chosen == (search.found.diff_ids[0] if search.found else None)
    return search.found


def test_a_windows_seconds() -> None:
    window = Window(10 * SECOND + 5, 11 * SECOND + 5)
    held = [second for second in range(8, 14) if window.holds(second * SECOND)]
    # The first may have begun before: the clock of file times is up to a tick behind.
    assert held == [9, 10, 11]
    assert not Window(10 * SECOND + 500_000_000, 11 * SECOND).holds(9 * SECOND)


def test_both_times_are_now(store: Store) -> None:
    old = record(store, layer(store, 1_001))
    assert adopted(store, layer(store, 2_000)) == old


@pytest.mark.parametrize(
    ("before", "after"), [(500, 501), (500, 2_000), (1_001, 500), (1_001, 1_002), (2_000, 1_001)]
)
def test_another_time_counts(store: Store, before: int, after: int) -> None:
    record(store, layer(store, before))
    assert adopted(store, layer(store, after)) is None


def test_equal_times_are_equal_whatever_they_are(store: Store) -> None:
    old = record(store, layer(store, 500))
    assert adopted(store, layer(store, 500)) == old


def test_everything_else_counts(store: Store) -> None:
    record(store, layer(store, 1_001))
    assert adopted(store, layer(store, 2_000, data=b"diff")) is None
    assert adopted(store, layer(store, 2_000, mode=0o600)) is None


def test_another_instruction_or_parent_is_not_asked(store: Store) -> None:
    record(store, layer(store, 1_001))
    diff_id = layer(store, 2_000)
    other = replace(OP, args=("make", "-B"))
    assert adopted(store, diff_id, op=other) is None
    assert adopted(store, diff_id, parent=(DiffID(KEY),)) is None
    mounted = replace(OP, mounts=(BindMount("/x", None, "/"),))
    assert adopted(store, diff_id, op=mounted) is None


def test_the_same_layer_before_one_that_is_alike(store: Store) -> None:
    diff_id = layer(store, 2_000)
    same = record(store, diff_id)
    record(store, layer(store, 1_001), key=digest_of(b"another"))
    assert adopted(store, diff_id) == same


def test_a_layer_that_is_gone_or_damaged_is_none(store: Store) -> None:
    gone, damaged = layer(store, 1_001), layer(store, 1_002)
    record(store, gone)
    record(store, damaged, key=digest_of(b"another"))
    store.layers.remove(gone)
    Path(store.layers.path(damaged), "fs/f").unlink()
    assert adopted(store, layer(store, 2_000)) is None


def test_proxies_are_no_part_of_an_instruction() -> None:
    proxied = replace(OP, proxy_env=(("HTTP_PROXY", "x"),))
    assert instruction_of(proxied, ()) == instruction_of(OP, ())
