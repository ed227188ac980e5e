"""Garbage collection after builds: its settings, and when it is due."""

import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild import configuration
from pybuild.engine.aftermath import may_be_due
from pybuild.engine.cachegc import collect_if_due, forget_old_builds, gc_settings
from pybuild.engine.cacheprune import Plan
from pybuild.errors import PybuildError
from store.buildjournal import BuildRow
from store.buildrecords import BuildRecord
from store.cachemounts import CacheMountKey
from store.digest import digest_of
from store.root import Store

TB = 10**12


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the user's configuration file, which is not there."""
    monkeypatch.setattr(configuration, "SYSTEM_FILE", str(tmp_path / "system.toml"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("PYBUILD_GC_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pybuild").mkdir()
    return tmp_path / "pybuild" / "config.toml"


def test_the_defaults_are_generous() -> None:
    known = gc_settings(TB)
    assert known.enabled
    assert (known.reserved, known.max_used, known.min_free) == (10**10, 10**11, TB // 5)
    assert (known.kept_s, known.interval_s) == (60 * 86400, 3600)
    small = gc_settings(50 * 10**9)
    assert (small.reserved, small.max_used, small.min_free) == (5 * 10**9, 40 * 10**9, 10**10)


def test_files_and_variables(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "system.toml").write_text(
        '[gc]\nmax-used-space = "1GB"\nreserved-space = "10%"\nkeep-duration = "7d"\n'
        "[other]\nx = 1\n"
    )
    config.write_text('[gc]\nmax-used-space = 2000\nenabled = false\nmin-free-space = "1GiB"\n')
    known = gc_settings(TB)
    assert (known.max_used, known.reserved, known.min_free) == (2000, TB // 10, 1 << 30)
    assert (known.kept_s, known.enabled) == (7 * 86400, False)
    monkeypatch.setenv("PYBUILD_GC_MAX_USED_SPACE", "3GB")
    monkeypatch.setenv("PYBUILD_GC_ENABLED", "true")
    known = gc_settings(TB)
    assert (known.max_used, known.enabled) == (3 * 10**9, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gc]\nmax-used = 1\n", r"config.toml: \[gc\] has an unknown setting max-used"),
        ('[gc]\nmax-used-space = "much"\n', r'\[gc\] max-used-space: "much" is no size'),
        ('[gc]\nenabled = "perhaps"\n', r'\[gc\] enabled: "perhaps" is neither true nor false'),
        ('[gc]\nkeep-duration = "a week"\n', r'\[gc\] keep-duration: "a week" is no duration'),
        ("[gc]\nkeep-duration = []\n", r"\[gc\] keep-duration: is neither text nor a number"),
        ("gc = 1\n", r"config.toml: gc is no table"),
        ("[gc\n", r"config.toml: "),
    ],
)
def test_wrong_settings(config: Path, text: str, message: str) -> None:
    config.write_text(text)
    with pytest.raises(PybuildError, match=message):
        gc_settings(TB)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def age(store: Store, seconds: float) -> None:
    stamp = Path(store.root, "locks/gc")
    now = os.stat(store.root).st_mtime
    os.utime(stamp, (now - seconds, now - seconds))


def test_a_look_is_taken_once_a_minute_and_a_collection_once_an_hour(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYBUILD_GC_MIN_FREE_SPACE", "0")
    assert not may_be_due(store), "a new store"
    assert not may_be_due(store)
    age(store, 1800)
    assert may_be_due(store)
    assert collect_if_due(store) is None
    age(store, 7200)
    plan = collect_if_due(store)
    assert plan is not None
    assert plan.going == ()
    assert not may_be_due(store)
    age(store, -7200)  # the clock was set back
    assert may_be_due(store)
    assert collect_if_due(store) is not None


def test_a_full_disk_does_not_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not may_be_due(store)
    age(store, 120)
    monkeypatch.setenv("PYBUILD_GC_MIN_FREE_SPACE", "0")
    assert collect_if_due(store) is None
    monkeypatch.setenv("PYBUILD_GC_MIN_FREE_SPACE", "100%")
    assert collect_if_due(store) is not None


def test_it_can_be_switched_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not may_be_due(store)
    age(store, 7200)
    monkeypatch.setenv("PYBUILD_GC_ENABLED", "false")
    assert collect_if_due(store) is None


def test_who_builds_is_not_waited_for_and_the_next_build_tries_again(store: Store) -> None:
    assert not may_be_due(store)
    age(store, 7200)
    with store.lease():
        assert collect_if_due(store) == Plan()
    assert may_be_due(store)
    assert collect_if_due(store) is not None


def test_cache_mounts_that_nobody_uses_go_beside_a_build(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long others build; layers stay, of which a build may just have found one."""
    for name in ("RESERVED", "MAX_USED"):
        monkeypatch.setenv(f"PYBUILD_GC_{name}_SPACE", "1")
    layer = store.layers.unpack([layer_tar()])
    store.records.insert(BuildRecord(digest_of(b"key"), (layer,), title="RUN"))
    for name in ("used", "unused"):
        key = CacheMountKey(name)
        instance = store.cache_mounts.use(key, sharing="locked", make=fill, wait=time.sleep)
        if name == "unused":
            instance.close()
    assert not may_be_due(store)
    age(store, 7200)
    with store.lease():
        plan = collect_if_due(store)
        assert plan is not None
        assert [entry.type for entry in plan.going] == ["exec.cachemount"]
        assert [info.key.id for info in store.cache_mounts.mounts()] == ["used"]
        assert store.layers.has(layer)
    assert collect_if_due(store) is not None
    assert not store.layers.has(layer)


def fill(path: str) -> None:
    os.mkdir(path)
    Path(path, "kept").write_bytes(bytes(1000))


def layer_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = 1000
        archive.addfile(entry, io.BytesIO(bytes(1000)))
    return out.getvalue()


def test_what_is_got_again_easily_goes_first_and_what_is_long_unused(store: Store) -> None:
    known = gc_settings(TB)
    now = 10.0**9
    cheap, old, rest = known.policies(now)
    assert cheap.filters.before_s == now - 48 * 3600
    assert (cheap.max_used, "exec.cachemount" in cheap.types) == (512 * 10**6, True)
    assert (old.filters.before_s, old.max_used) == (now - 60 * 86400, 10**11)
    assert (rest.filters.before_s, rest.types, rest.reserved) == (now, (), 10**10)
    assert not any(policy.everything for policy in (cheap, old, rest))


def test_how_long_the_journal_is_kept(config: Path, tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        now_ns = time.time_ns()
        for days in range(0, 50, 10):
            row = BuildRow(f"b{days}", now_ns - days * 86400 * 10**9 - 1, status="done")
            store.journal.begin_build(row)

        def kept() -> list[str]:
            forget_old_builds(store)
            return [build.build_id for build in store.journal.builds()]

        assert kept() == ["b0", "b10", "b20", "b30", "b40"]  # 200 builds are kept however old
        config.write_text("[history]\nmax-entries = 2\n")
        assert kept() == ["b0", "b10", "b20"]  # 30 days
        config.write_text('[history]\nmax-entries = 2\nmax-age = "1h"\n')
        assert kept() == ["b0", "b10"]
        config.write_text('[history]\nmax-entries = "many"\n')
        with pytest.raises(PybuildError, match=r'max-entries: "many" is no number of builds'):
            kept()
