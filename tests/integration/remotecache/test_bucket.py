"""Buckets whose rules remove what is old: what is exported again is new again."""

from pathlib import Path

import pytest

from builder.remotecache.entry import CacheEntry
from builder.remotecache.s3 import BucketCache, address_of
from builder.request import CachePlace
from registry_client.bucket import Bucket
from store.digest import DiffID, digest_of
from store.root import Store


@pytest.mark.parametrize(("refresh", "is_touched"), [("0", True), ("1h", False)])
def test_what_is_old_is_touched(
    bucket: str, refresh: str, is_touched: bool, tmp_path: Path
) -> None:
    options = [tuple(word.split("=", 1)) for word in f"{bucket},touch_refresh={refresh}".split(",")]
    place = CachePlace("s3", tuple((key, value) for key, value in options))
    layer = DiffID(digest_of(b"layer"))
    entry = CacheEntry(digest_of(b"key"), "run", (layer,), created="2020", title="RUN")
    with Store.open(tmp_path / "store") as store:
        cache = BucketCache(place, store.content)
        assert not cache.has(entry)
        cache.add([entry])
        assert cache.has(entry)
        raw = Bucket(address_of(place))
        (name,) = raw.list("manifests/")
        head = raw._call("head_object", Key=name)
        assert ("touched" in head["Metadata"]) is is_touched
        assert [found.name for found in cache.find(entry.key)] == [entry.name]
        raw.close()
        cache.close()
