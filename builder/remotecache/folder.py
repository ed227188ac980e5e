"""A remote cache in a folder: an OCI layout whose index names a manifest a record.

Other tools can copy it as any layout. The index is changed under a lock in the folder, so several
exporters at once lose nothing; blobs appear whole, before the index names them.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from builder.absent import Origin
from builder.remotecache.entry import (
    EMPTY,
    RECORD,
    CacheEntry,
    key_name,
    manifest_of,
    manifest_of_note,
)
from builder.remotecache.laststeps import MEDIA_TYPE
from store import mediatypes
from store.content import ContentStore
from store.digest import Digest, digest_of, hex_of
from store.document import encode
from store.layers import BlobRef
from store.layout import INDEX_FILE, LAYOUT_FILE, REFERENCE_NAME, blob_path
from store.oci import Descriptor, Index, Manifest

_LOCK = "pybuild.lock"


class FolderCache:
    """The cache in one folder: a source and a target.

    tag: whose records are meant. digest: of the only manifest that is meant, whatever its tag.
    """

    def __init__(
        self,
        folder: str,
        tag: str,
        content: ContentStore,
        *,
        is_reset: bool = False,
        digest: str = "",
    ) -> None:
        self.name = f"local {folder}"
        self.what = f"cache {folder}"
        self._folder = folder
        self._tag = tag
        self._content = content
        self._is_reset = is_reset
        self._digest = digest
        self._lock = threading.Lock()
        self._found: dict[str, list[CacheEntry]] | None = None

    def close(self) -> None:
        """Nothing is open."""

    # -- reading

    def find(self, key: Digest) -> Sequence[CacheEntry]:
        """Return the results of a key. Raises Corrupt, OSError."""
        with self._lock:
            if self._found is None:
                found: dict[str, list[CacheEntry]] = {}
                for name, entry in self._entries(self._index()).items():
                    found.setdefault(name.rpartition("-")[0], []).append(entry)
                self._found = found
            return [entry for entry in self._found.get(key_name(key), ()) if entry.key == key]

    def _index(self) -> tuple[Descriptor, ...]:
        path = os.path.join(self._folder, INDEX_FILE)
        try:
            with open(path, "rb") as file:
                return Index.from_json(file.read()).manifests
        except FileNotFoundError:
            return ()

    def _entries(self, manifests: Sequence[Descriptor]) -> dict[str, CacheEntry]:
        """Return the tag's records by name."""
        prefix, found = f"{self._tag}-", {}
        for item in manifests:
            named = item.annotations or {}
            name = named.get(REFERENCE_NAME, "")
            is_meant = item.digest == self._digest if self._digest else name.startswith(prefix)
            if is_meant and RECORD in named:
                entry = CacheEntry.from_json(named[RECORD].encode(), self.what)
                found[entry.name] = entry
        return found

    def origin(self, blob: BlobRef) -> Origin:
        """Return how a blob of the folder is brought to the store."""
        return Origin(blob, partial(self._bring, blob))

    def _bring(self, blob: BlobRef) -> None:
        with open(os.path.join(self._folder, blob_path(blob.digest)), "rb") as file:
            self._content.ingest(iter(partial(file.read, 1 << 20), b""), blob.digest)

    def note(self, name: str) -> bytes | None:
        """Return what stands under a name. Raises Corrupt, OSError."""
        wanted = f"{self._tag}-{name}"
        for item in self._index():
            if (item.annotations or {}).get(REFERENCE_NAME) == wanted:
                (layer, *_) = Manifest.from_json(self._read(item.digest)).layers
                return self._read(layer.digest)
        return None

    def _read(self, digest: Digest) -> bytes:
        with open(os.path.join(self._folder, blob_path(digest)), "rb") as file:
            return file.read()

    # -- writing

    def has(self, entry: CacheEntry) -> bool:
        """Tell whether a record is there; with `reset` all are written anew."""
        if self._is_reset:
            return False
        return any(known.name == entry.name for known in self.find(entry.key))

    def send(self, blob: BlobRef, origin: Origin | None, bring: Callable[[], None]) -> None:
        """Let a blob be in the folder. Raises OSError, StoreError."""
        path = os.path.join(self._folder, blob_path(blob.digest))
        if os.path.exists(path):
            return
        bring()
        with self._content.open(blob.digest) as file:
            _write(path, iter(partial(file.read, 1 << 20), b""))

    def add(self, entries: Sequence[CacheEntry]) -> None:
        """Add records whose blobs are there. Raises OSError, Corrupt."""
        self._put(EMPTY)
        added = [self._descriptor(entry) for entry in entries]
        self._enter(added, is_reset=self._is_reset)
        self._found = None

    def put_note(self, name: str, data: bytes) -> None:
        """Let `data` stand under a name. Raises OSError, Corrupt."""
        blob = BlobRef(self._put(data), len(data), MEDIA_TYPE)
        manifest = manifest_of_note(blob).to_json()
        named = {REFERENCE_NAME: f"{self._tag}-{name}"}
        descriptor = Descriptor(mediatypes.OCI_MANIFEST, self._put(manifest), len(manifest), named)
        self._enter([descriptor])

    def _enter(self, added: Sequence[Descriptor], *, is_reset: bool = False) -> None:
        """Let the index name manifests, in the place of others of the same names."""
        with self._locked():
            names = {(item.annotations or {})[REFERENCE_NAME] for item in added}
            before = () if is_reset else self._index()
            kept = [i for i in before if (i.annotations or {}).get(REFERENCE_NAME) not in names]
            layout = encode({"imageLayoutVersion": "1.0.0"})
            _write(os.path.join(self._folder, LAYOUT_FILE), [layout])
            index = Index((*kept, *added)).to_json()
            _write(os.path.join(self._folder, INDEX_FILE), [index])
            if is_reset:
                self._drop_unnamed(added)

    def _descriptor(self, entry: CacheEntry) -> Descriptor:
        """Write the manifest of a record and return what the index says of it."""
        manifest = manifest_of(entry)
        data = manifest.to_json()
        named = {REFERENCE_NAME: f"{self._tag}-{entry.name}", **(manifest.annotations or {})}
        return Descriptor(mediatypes.OCI_MANIFEST, self._put(data), len(data), named)

    def _put(self, data: bytes) -> Digest:
        digest = digest_of(data)
        path = os.path.join(self._folder, blob_path(digest))
        if not os.path.exists(path):
            _write(path, [data])
        return digest

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = os.path.join(self._folder, _LOCK)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _drop_unnamed(self, kept: Sequence[Descriptor]) -> None:
        """Remove the blobs that none of the records names."""
        named = {hex_of(digest_of(EMPTY))}
        for item in kept:
            named.add(hex_of(item.digest))
            with open(os.path.join(self._folder, blob_path(item.digest)), "rb") as file:
                layers = Manifest.from_json(file.read()).layers
            named.update(hex_of(layer.digest) for layer in layers)
        folder = os.path.join(self._folder, "blobs/sha256")
        for name in os.listdir(folder):
            if name not in named:
                os.unlink(os.path.join(folder, name))


def _write(path: str, chunks: "Sequence[bytes] | Iterator[bytes]") -> None:
    """Write a file whole."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.{id(chunks)}.part"
    try:
        with open(temporary, "wb") as file:
            file.writelines(chunks)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
