"""A remote cache at a registry: one small manifest a record, under tags of its own.

    TAG-<key>            what the key is found by: a manifest, or an index of several results
    TAG-<key>-<result>   the record itself, written once and never changed

A look-up is one GET of the first. The second are the truth: an exporter writes its own, then sees
to it that the first leads to all of them, and looks again after it wrote, so the last of several at
once leaves it whole. A manifest names the blobs of its layers, so a registry that collects garbage
keeps them. Source: image-spec manifest.md, "Guidelines for Artifact Usage".
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from builder.absent import Origin
from builder.remotecache import inline
from builder.remotecache.entry import (
    ARTIFACT,
    EMPTY,
    RECORD,
    CacheEntry,
    key_name,
    manifest_of,
    manifest_of_note,
)
from builder.remotecache.laststeps import MEDIA_TYPE
from builder.remotecache.source import CacheFailed
from registry_client import blobs, manifests, uploads
from registry_client.blobs import Blob
from registry_client.client import Access, Client, scope
from registry_client.crew import Crew
from registry_client.errors import NotFound
from registry_client.manifests import Document, Repository
from registry_client.resolve import choose, pulling
from registry_client.tags import tags_after
from store import mediatypes
from store.content import ContentStore
from store.digest import Digest, digest_of
from store.layers import BlobRef
from store.oci import Descriptor, Index, Manifest, Platform
from store.reference import Reference
from values.classes import replace

_WORKERS = 6
_EMPTY = BlobRef(digest_of(EMPTY), len(EMPTY), mediatypes.OCI_EMPTY)
_ROUNDS = 8  # of looking again after others have written


class RegistryCache:
    """The cache of one reference: a source and a target."""

    def __init__(
        self,
        reference: Reference,
        access: Access,
        content: ContentStore,
        platform: Platform,
        *,
        writes: bool,
    ) -> None:
        self.name = f"registry {reference.familiar()}"
        self.what = f"cache {reference.familiar()}"
        self._reference = reference
        self._content = content
        self._platform = platform
        self._inline: dict[Digest, list[CacheEntry]] | None = None
        self._lock = threading.Lock()
        name = reference.repository
        self._client = Client(reference.registry, access, name)
        scopes = (scope(name, "pull", "push"),) if writes else pulling(name)
        self._repository = Repository(self._client, name, scopes)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.transport.close()

    def _tag(self, name: str) -> str:
        return f"{self._reference.tag}-{name}"

    # -- reading

    def find(self, key: Digest) -> Sequence[CacheEntry]:
        """Return the results of a key by one request. Raises RegistryError, Corrupt.

        What the image itself says, if the reference names one with a cache inside, comes last; it
        is asked for once.
        """
        with self._lock:
            if self._inline is None:
                self._inline = self._load_inline()
        document = self._document(self._tag(key_name(key)))
        found = self._entries(document) if document is not None else []
        return [e for e in (*found, *self._inline.get(key, ())) if e.key == key]

    def _document(self, tag: str) -> Document | None:
        try:
            return manifests.fetch(self._repository, tag, self.what)
        except NotFound:
            return None

    def _entries(self, document: Document) -> list[CacheEntry]:
        if document.is_index:
            children = manifests.read_index(document, self.what).manifests
            texts = [(child.annotations or {}).get(RECORD, "") for child in children]
        else:
            manifest = Manifest.from_json(document.data)
            texts = [(manifest.annotations or {}).get(RECORD, "")]
        return [CacheEntry.from_json(text.encode(), self.what) for text in texts]

    def _load_inline(self) -> dict[Digest, list[CacheEntry]]:
        """Return what the image that the reference names says of itself; nothing where it is none.

        Raises RegistryError, Corrupt.
        """
        document = self._document(self._reference.tag or "latest")
        if document is not None and document.is_index:
            chosen = choose(manifests.read_index(document, self.what), self._platform)
            document = self._document(chosen.digest) if chosen is not None else None
        if document is None:
            return {}
        manifest = Manifest.from_json(document.data)
        if manifest.config.media_type not in mediatypes.CONFIGS:
            return {}
        config = blobs.fetch(Blob(self._repository, manifest.config, self.what))
        layers = [BlobRef(d.digest, d.size_bytes, d.media_type) for d in manifest.layers]
        return inline.read(config, layers, self.what)

    def origin(self, blob: BlobRef) -> Origin:
        """Return how a blob of this repository is brought here."""
        bring = partial(self._bring, blob)
        return Origin(blob, bring, self._reference.registry, self._repository.name)

    def _bring(self, blob: BlobRef) -> None:
        descriptor = Descriptor(blob.media_type, blob.digest, blob.size_bytes)
        chunks = blobs.stream(Blob(self._repository, descriptor, f"{self.what}: {blob.digest}"))
        self._content.ingest(chunks, blob.digest)

    def note(self, name: str) -> bytes | None:
        """Return what stands under a name. Raises RegistryError, Corrupt."""
        document = self._document(self._tag(name))
        if document is None or document.is_index:
            return None
        (descriptor, *_) = Manifest.from_json(document.data).layers
        return blobs.fetch(Blob(self._repository, descriptor, self.what))

    # -- writing

    def has(self, entry: CacheEntry) -> bool:
        """Tell whether a record is found by its key. Raises RegistryError, Corrupt.

        One that is there and that its key does not lead to is of an export that was ended in
        between; it is led to by being added again.
        """
        document = self._document(self._tag(entry.key_name))
        found = self._entries(document) if document is not None else []
        return any(known.name == entry.name for known in found)

    def send(self, blob: BlobRef, origin: Origin | None, bring: Callable[[], None]) -> None:
        """Let a blob be in the repository. Raises RegistryError, StoreError."""
        source = ""
        if origin is not None and origin.host == self._reference.registry:
            source = "" if origin.repository == self._repository.name else origin.repository
        what = f"{self.what}: layer {blob.digest}"
        wanted = uploads.Wanted(self._repository, blob.digest, what, source)
        if uploads.place(wanted)[0] is not None:
            return
        bring()
        with self._content.open(blob.digest) as file:
            size = self._content.size(blob.digest)
            upload = uploads.Upload(self._repository, blob.digest, what, source, size, file)
            uploads.send(upload)

    def add(self, entries: Sequence[CacheEntry]) -> None:
        """Add records whose blobs are there. Raises RegistryError, Corrupt, CacheFailed."""
        if not entries:
            return
        self._send_bytes(_EMPTY, EMPTY)
        self._all(self._put_record, entries)
        self._all(self._lead, entries)

    def put_note(self, name: str, data: bytes) -> None:
        """Let `data` stand under a name. Raises RegistryError, StoreError."""
        blob = BlobRef(digest_of(data), len(data), MEDIA_TYPE)
        self._send_bytes(_EMPTY, EMPTY)
        self._send_bytes(blob, data)
        document = Document.of(manifest_of_note(blob).to_json(), mediatypes.OCI_MANIFEST)
        manifests.put(self._repository, self._tag(name), document, self.what)

    def _send_bytes(self, blob: BlobRef, data: bytes) -> None:
        def bring() -> None:
            self._content.put(data)

        self.send(blob, None, bring)

    def _all(self, do: Callable[[CacheEntry], None], entries: Iterable[CacheEntry]) -> None:
        Crew(_WORKERS).run(partial(do, entry) for entry in entries)

    def _put_record(self, entry: CacheEntry) -> None:
        document = _document_of(entry)
        manifests.put(self._repository, self._tag(entry.name), document, self.what)

    def _lead(self, entry: CacheEntry) -> None:
        """Let the key's tag lead to all records of the key, this one among them."""
        tag = self._tag(entry.key_name)
        known = {entry.name: entry}
        for _ in range(_ROUNDS):
            there = self._document(tag)
            found = self._entries(there) if there is not None else []
            listed = self._listed(tag, {item.name: item for item in found} | known)
            if {item.name for item in found} >= listed.keys():
                return
            known = listed
            manifests.put(self._repository, tag, _document_of(*listed.values()), self.what)
        raise CacheFailed(f"{self.what}: others keep writing {tag}")

    def _listed(self, tag: str, known: dict[str, CacheEntry]) -> dict[str, CacheEntry]:
        """Return the records of a key by name: those known, and what else the repository lists."""
        prefix = self._tag("")
        found = dict(known)
        for name in tags_after(self._repository, tag, self.what):
            short = name.removeprefix(prefix)
            if name.startswith(f"{tag}-") and short not in found:
                document = self._document(name)
                if document is not None:
                    found[short] = self._entries(document)[0]
        return dict(sorted(found.items()))


def _document_of(*entries: CacheEntry) -> Document:
    """Return the manifest of a record, or the index of several."""
    data = [manifest_of(entry).to_json() for entry in entries]
    documents = [Document.of(item, mediatypes.OCI_MANIFEST) for item in data]
    if len(documents) == 1:
        return documents[0]
    children = tuple(
        replace(document.descriptor, annotations={RECORD: entry.to_json().decode()})
        for document, entry in zip(documents, entries, strict=True)
    )
    index = Index(children, artifact_type=ARTIFACT)
    return Document.of(index.to_json(), mediatypes.OCI_INDEX)
