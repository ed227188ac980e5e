"""Records of remote caches: what they say, where they lie, and that exporters lose none."""

import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.absent import Absent, Origin
from builder.cache import Key
from builder.errors import BuildError, LayersLost
from builder.remotecache import inline
from builder.remotecache.entry import CacheEntry, memo_key, shortened
from builder.remotecache.exports import Solved
from builder.remotecache.folder import FolderCache
from builder.remotecache.imports import Imports
from builder.remotecache.ledger import Ledger
from builder.remotecache.places import FROM_KEYS, TO_KEYS, check_places, duration_s
from builder.remotecache.registry import RegistryCache
from builder.request import BuildRequest, CachePlace
from registry_client.client import Access
from registry_client.trust import Trust
from store.buildrecords import BuildRecord
from store.digest import DiffID, Digest, digest_of
from store.errors import Corrupt
from store.layers import BlobRef
from store.mediatypes import OCI_LAYER, OCI_LAYER_GZIP
from store.oci import ImageConfig, Platform
from store.reference import Reference
from store.root import Store
from store.tarwriter import END, Header, encode
from store.unpacklimit import BOMB_RATIO
from values.classes import replace


def entry(key: str, result: str, blob: bytes = b"") -> CacheEntry:
    diff_id = DiffID(digest_of(result.encode()))
    blobs = (BlobRef(digest_of(blob), len(blob), OCI_LAYER),) if blob else ()
    return CacheEntry(digest_of(key.encode()), "run", (diff_id,), blobs, created="2020", title=key)


@pytest.fixture(params=["registry", "folder"])
def opened(request, registry, store: Store, tmp_path: Path) -> Callable[[], object]:
    """Return a function that opens the same cache anew."""
    access = Access(Trust(), find=lambda _registry, _repository: None)
    reference = Reference.parse(f"{registry.host}/app:cache")

    def make() -> RegistryCache | FolderCache:
        if request.param == "folder":
            return FolderCache(str(tmp_path / "cache"), "tag", store.content)
        return RegistryCache(
            reference, access, store.content, Platform("linux", "amd64"), writes=True
        )

    return make


@given(
    st.builds(
        CacheEntry,
        key=st.just(digest_of(b"k")),
        kind=st.text(min_size=1),
        diff_ids=st.lists(st.just(DiffID(digest_of(b"d"))), max_size=3).map(tuple),
        value=st.text(),
        created=st.text(),
        started_ns=st.integers(0, 1 << 62),
        ended_ns=st.integers(0, 1 << 62),
        title=st.text(),
    )
)
def test_a_record_is_read_as_it_was_written(written: CacheEntry) -> None:
    assert CacheEntry.from_json(written.to_json(), "cache") == written


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text.replace('"version":1', '"version":2'),
        lambda text: text.replace("sha256:", "md5:"),
        lambda text: text.replace('"diff_ids"', '"diffs"'),
        lambda text: text.replace(OCI_LAYER, "application/json"),
        lambda text: text.replace('"kind":"run",', ""),
        lambda text: "[]",
    ],
)
def test_what_is_no_record(change: Callable[[str], str]) -> None:
    text = entry("k", "r", b"blob").to_json().decode()
    with pytest.raises(Corrupt):
        CacheEntry.from_json(change(text).encode(), "cache")


def test_the_name_is_of_key_and_result() -> None:
    one = entry("k", "r")
    assert one.name == replace(one, created="2021", started_ns=5).name, "when it ran is no part"
    others = [entry("k", "s"), entry("l", "r"), entry("k", "r", b"bytes"), replace(one, value="v")]
    assert len({one.name, *(other.name for other in others)}) == 5
    assert all(other.key_name == one.key_name for other in others[:1])


def test_long_memos_lose_their_list_of_files() -> None:
    assert shortened('["sha256:a", [["name", "x"]]]') == '["sha256:a", [["name", "x"]]]'
    assert shortened('["sha256:a", [["%s", "x"]]]' % ("n" * 200000)) == '["sha256:a", []]'
    assert memo_key("selection", "x") != memo_key("mounted", "x")


def test_several_results_of_one_key(opened, store) -> None:
    store.content.put(b"blob")
    cache = opened()
    one, two = entry("k", "1", b"blob"), entry("k", "2")
    assert not cache.find(one.key)
    cache.send(one.blobs[0], None, lambda: None)
    cache.add([one])
    assert (cache.has(one), cache.has(two)) == (True, False)
    opened().add([two, entry("other", "3")])
    assert sorted(opened().find(one.key), key=lambda e: e.name) == sorted(
        [one, two], key=lambda e: e.name
    )
    assert not opened().find(digest_of(b"nothing"))


def test_exporters_at_once_lose_nothing(opened, rounds) -> None:
    for number in range(rounds(100, 5)):
        halves = [
            [entry(f"{number}-shared", name), entry(f"{number}-{name}", name)]
            for name in ("a", "b", "c")
        ]
        start = threading.Barrier(len(halves))
        failures: list[BaseException] = []

        def export(entries: list[CacheEntry], start=start, failures=failures) -> None:
            try:
                cache = opened()
                start.wait()
                cache.add(entries)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=export, args=(half,)) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        reader = opened()
        for item in (one for half in halves for one in half):
            assert item in reader.find(item.key), number


def test_a_registry_that_pages_its_tags(registry, store) -> None:
    registry.page = 2
    access = Access(Trust(), find=lambda _registry, _repository: None)
    reference = Reference.parse(f"{registry.host}/app:cache")
    platform = Platform("linux", "amd64")
    for result in range(5):
        cache = RegistryCache(reference, access, store.content, platform, writes=True)
        cache.add([entry("k", str(result)), entry("z", str(result))])
    reader = RegistryCache(reference, access, store.content, platform, writes=False)
    assert len(reader.find(digest_of(b"k"))) == len(reader.find(digest_of(b"z"))) == 5


def test_records_in_an_image() -> None:
    layer = BlobRef(digest_of(b"blob"), 4, OCI_LAYER)
    mine, other = entry("k", "mine"), entry("l", "other")
    config = ImageConfig("amd64", "linux", diff_ids=mine.diff_ids)
    data = inline.written(config, [other, mine, replace(mine, started_ns=7)]).to_json()
    assert data == inline.written(config, [mine, other]).to_json(), "order and time do not count"
    found = inline.read(data, [layer], "image")
    assert found == {mine.key: [replace(mine, blobs=(layer,))], other.key: [other]}
    assert inline.read(config.to_json(), [layer], "image") == {}


@pytest.mark.parametrize(
    ("place", "message", "hint"),
    [
        ("gha", "type=gha: not supported yet", "registry, local, inline, s3"),
        ("tape", "type=tape: no such type", "registry, local, inline, s3"),
        ("registry", "ref is required", "type=registry,ref=…"),
        ("registry,ref=x/UPPER", 'invalid ref "x/UPPER"', None),
        ("registry,ref=x@sha256:" + "0" * 64, "invalid ref", "name a tag"),
        ("registry,ref=x,mode=most", 'invalid mode "most"', "min and max"),
        ("registry,ref=x,compression=estargz", 'invalid compression "estargz"', "gzip, zstd"),
        ("registry,ref=x,compression-level=11", "compression-level", "from 0 to 9"),
        ("registry,ref=x,ignore-error=perhaps", "ignore-error", "true or false"),
        ("registry,ref=x,color=red", 'unknown key "color"', "type, ref, registry.insecure, mode"),
        ("local", "dest is required", "type=local,dest=…"),
        ("local,dest=/dev/null", "invalid dest", "no folder"),
        ("inline,mode=max", 'invalid mode "max"', "mode min"),
        ("s3,region=x", "bucket is required", "type=s3,bucket=…"),
        ("s3,bucket=b,retry_mode=never", "invalid retry_mode", "standard, adaptive"),
    ],
)
def test_wrong_places(place: str, message: str, hint: str | None) -> None:
    kind, *options = place.split(",")
    pairs = tuple((key, value) for key, _, value in (each.partition("=") for each in options))
    request = BuildRequest(context=".", cache_to=(CachePlace(kind, pairs),))
    with pytest.raises(BuildError) as caught:
        check_places(request)
    assert message in str(caught.value)
    assert hint is None or hint in (caught.value.hint or "")


# What may say anything.
FREE = {"bucket", "region", "prefix", "blobs_prefix", "manifests_prefix", "endpoint_url"}
FREE |= {"access_key_id", "secret_access_key", "session_token"}
OPTIONS = [
    (option, type_, key)
    for option, table in (("cache_from", FROM_KEYS), ("cache_to", TO_KEYS))
    for type_, known in table.items()
    for key in known or ()
    if key not in FREE
]


@pytest.mark.parametrize(("option", "type_", "key"), OPTIONS)
def test_a_wrong_value_of_any_key_is_one_error_that_says_what_is_right(
    option: str, type_: str, key: str
) -> None:
    value = "/dev/null" if key in ("src", "dest") else "?!"
    place = CachePlace(type_, ((key, value),))
    places: dict[str, tuple[CachePlace, ...]] = {option: (place,)}
    with pytest.raises(BuildError) as caught:
        check_places(BuildRequest(context=".", **places))  # type: ignore[arg-type]
    shown = option.replace("_", "-")
    assert str(caught.value) == f'--{shown} type={type_}: invalid {key} "{value}"'
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("0", 0.0), ("10", None), ("-1h", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration_s(text) == seconds


def test_one_manifest_of_a_folder(store, tmp_path) -> None:
    folder = str(tmp_path / "cache")
    FolderCache(folder, "a", store.content).add([entry("k", "1"), entry("k", "2")])
    named = json.loads((tmp_path / "cache/index.json").read_text())["manifests"]
    found = [
        FolderCache(folder, "other", store.content, digest=item["digest"]).find(entry("k", "").key)
        for item in named
    ]
    assert [[each.name for each in one] for one in found] == [
        [entry("k", "1").name],
        [entry("k", "2").name],
    ]
    assert FolderCache(folder, "other", store.content).find(entry("k", "1").key) == []


def test_an_inline_cache_is_read_from_its_image() -> None:
    request = BuildRequest(context=".", cache_from=(CachePlace("inline"),))
    with pytest.raises(BuildError) as caught:
        check_places(request)
    assert caught.value.hint == "write type=registry,ref=IMAGE"


def test_what_a_machine_could_not_hold_is_not_exported() -> None:
    ledger = Ledger()
    for number, fidelity in enumerate(("full", "single-id", "chroot", None)):
        ingredients = {} if fidelity is None else {"fidelity": fidelity}
        key, diff_id = digest_of(b"%d" % number), DiffID(digest_of(b"layer"))
        record = BuildRecord(key, (diff_id,), kind="run", ingredients=ingredients)
        ledger.records[str(number)] = record
    found = [entry.key for _, entry in Solved({}, (), ledger).entries()]
    assert found == [digest_of(b"0")]


class Tape:
    """A source that says what it is given, or fails."""

    def __init__(self, name: str, *entries: CacheEntry, error: Exception | None = None) -> None:
        self.name, self.entries, self.error, self.asked = name, entries, error, 0

    def find(self, key: Digest) -> list[CacheEntry]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return [entry for entry in self.entries if entry.key == key]

    def origin(self, blob: BlobRef) -> Origin:
        return Origin(blob, lambda: None)

    def close(self) -> None:
        pass


def test_sources_in_order_and_one_that_fails(store) -> None:
    key = digest_of(b"k")
    late = replace(entry("k", "late", b"x"), started_ns=9)
    early = replace(entry("k", "early", b"x"), started_ns=5)
    names_only = replace(entry("k", "names"), started_ns=1)
    broken = Tape("broken", error=Corrupt("nonsense"))
    empty, full = Tape("empty"), Tape("full", late, names_only, early)
    said: list[str] = []
    absent = Absent(store)
    imports = Imports([broken, empty, full], absent, said.append)
    record, source = imports.look_up(Key(key, {"a": 1})) or (None, "")
    assert record is not None
    assert (record.diff_ids, source) == (early.diff_ids, "full"), "with bytes, the first made"
    assert record.ingredients == {"a": 1}
    absent.give_up(early.diff_ids)
    record, _ = imports.look_up(Key(key, {})) or (None, "")
    assert record is not None
    assert record.diff_ids == late.diff_ids, "what is lost is no result any more"
    assert imports.look_up(Key(digest_of(b"other"), {})) is None
    assert imports.recall("selection", "x") is None
    assert (broken.asked, len(said)) == (1, 1), "a source that fails is asked once"
    assert "broken" in said[0]


def test_a_layer_that_is_a_bomb_is_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.unpacklimit.BOMB_BYTES", 1 << 20)
    size_bytes = 8 << 20
    header = encode(Header(b"zeros", b"0", 0o644, size_bytes=size_bytes))
    tar = header + bytes(size_bytes) + END
    data = gzip.compress(tar, mtime=0)
    assert len(data) * BOMB_RATIO < size_bytes
    blob = BlobRef(digest_of(data), len(data), OCI_LAYER_GZIP)
    absent = Absent(store)
    diff_id = DiffID(digest_of(tar))
    absent.offer(diff_id, Origin(blob, lambda: store.content.put(data) and None))
    with pytest.raises(LayersLost, match="taken for a bomb"):
        absent.need([diff_id])
    assert not store.layers.has(diff_id)
