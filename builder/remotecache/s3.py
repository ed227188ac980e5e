"""A remote cache in a bucket: an object a record below its key's name, and one a blob.

    PREFIX manifests/NAME/<key>/<result>      a record
    PREFIX blobs/sha256/<hex>                 a layer's bytes

A look-up lists the names below the key: one request, and one more for each result there is.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from builder.absent import Origin
from builder.remotecache.entry import CacheEntry, key_name
from builder.remotecache.places import duration_s
from builder.request import CachePlace
from registry_client.bucket import Bucket, BucketAddress
from store.content import ContentStore
from store.digest import Digest, hex_of
from store.layers import BlobRef

_MOST_RESULTS = 16
_PARALLEL = 4
_REFRESH_S = 24 * 3600.0


def address_of(place: CachePlace) -> BucketAddress:
    """Return where the bucket of a place is."""

    def text(key: str) -> str:
        return place.option(key) or ""

    return BucketAddress(
        text("bucket"),
        text("region"),
        text("endpoint_url"),
        place.is_on("use_path_style"),
        text("access_key_id"),
        text("secret_access_key"),
        text("session_token"),
        text("retry_mode") or "standard",
        int(text("retry_max_attempts") or 3),
    )


class BucketCache:
    """The cache below one prefix of a bucket: a source and a target."""

    def __init__(self, place: CachePlace, content: ContentStore) -> None:
        address = address_of(place)
        prefix, name = place.option("prefix") or "", place.option("name") or "buildkit"
        self.name = f"s3 {address.bucket}/{prefix}{name}"
        self.what = f"cache {address.bucket}"
        manifests = place.option("manifests_prefix")
        blobs = place.option("blobs_prefix")
        self._records = f"{prefix}{'manifests/' if manifests is None else manifests}{name}/"
        self._blobs = f"{prefix}{'blobs/' if blobs is None else blobs}sha256/"
        refresh_s = duration_s(place.option("touch_refresh") or "")
        self._refresh_s = _REFRESH_S if refresh_s is None else refresh_s
        self._parallel = int(place.option("upload_parallelism") or _PARALLEL)
        self._content = content
        self._bucket = Bucket(address)

    def close(self) -> None:
        """Let go of the connections."""
        self._bucket.close()

    # -- reading

    def find(self, key: Digest) -> Sequence[CacheEntry]:
        """Return the results of a key. Raises RegistryError, Corrupt."""
        names = self._bucket.list(f"{self._records}{key_name(key)}/", _MOST_RESULTS)
        entries = (CacheEntry.from_json(self._bucket.get(name), self.what) for name in names)
        return [entry for entry in entries if entry.key == key]

    def origin(self, blob: BlobRef) -> Origin:
        """Return how a blob is brought here."""
        return Origin(blob, partial(self._bring, blob))

    def _bring(self, blob: BlobRef) -> None:
        self._content.ingest(self._bucket.stream(self._blob(blob)), blob.digest)

    def _blob(self, blob: BlobRef) -> str:
        return f"{self._blobs}{hex_of(blob.digest)}"

    def _record(self, entry: CacheEntry) -> str:
        return f"{self._records}{entry.key_name}/{entry.name}"

    def note(self, name: str) -> bytes | None:
        """Return what stands under a name. Raises RegistryError."""
        path = f"{self._records}{name}"
        return self._bucket.get(path) if self._bucket.has(path) else None

    # -- writing

    def has(self, entry: CacheEntry) -> bool:
        """Tell whether a record is there; it is kept from growing old. Raises RegistryError."""
        return self._is_kept(self._record(entry))

    def _is_kept(self, name: str) -> bool:
        """Tell whether an object is there; one that is old is made new, as rules of buckets count.

        Source: BuildKit cache/remotecache/s3, touch_refresh.
        """
        age_s = self._bucket.age_s(name)
        if age_s is None:
            return False
        if age_s > self._refresh_s:
            self._bucket.touch(name)
        return True

    def send(self, blob: BlobRef, origin: Origin | None, bring: Callable[[], None]) -> None:
        """Let a blob be there. Raises RegistryError, StoreError."""
        if self._is_kept(self._blob(blob)):
            return
        bring()
        with self._content.open(blob.digest) as file:
            self._bucket.put_file(self._blob(blob), file)

    def add(self, entries: Sequence[CacheEntry]) -> None:
        """Add records whose blobs are there. Raises RegistryError."""
        with ThreadPoolExecutor(self._parallel) as pool:
            list(pool.map(lambda e: self._bucket.put(self._record(e), e.to_json()), entries))

    def put_note(self, name: str, data: bytes) -> None:
        """Let `data` stand under a name. Raises RegistryError."""
        self._bucket.put(f"{self._records}{name}", data)
