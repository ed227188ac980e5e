"""One record of a remote cache: a key and one result of it, immutable.

Two exporters never change each other's records: a record is named by its key and its result, so
the same is written twice or two are written side by side. What is not known here is who lies where.
"""

import json

from store import mediatypes
from store.digest import DiffID, Digest, digest_of, hex_of, is_digest
from store.document import Fields, decode, encode
from store.errors import Corrupt
from store.layers import BlobRef
from store.oci import Descriptor, Manifest
from values.classes import dataclass

VERSION = 1
ARTIFACT = "application/vnd.pybuild.cache.record.v1+json"
RECORD = "org.pybuild.cache.record"
EMPTY = b"{}"
KEY_DIGITS = 32
RESULT_DIGITS = 16
# Memos are what a selection of files holds; their lists of files are for explanations only.
_LONGEST_MEMO = 1 << 17


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A key with one result.

    kind: of the step (run, copy, …) or, for a memo, its namespace. diff_ids: the layers that the
    step added. blobs: their bytes as they lie at the cache, or nothing where only their names do.
    value: what a memo says. created, started_ns, ended_ns, title: of the step that ran.
    """

    key: Digest
    kind: str
    diff_ids: tuple[DiffID, ...] = ()
    blobs: tuple[BlobRef, ...] = ()
    value: str = ""
    created: str = ""
    started_ns: int = 0
    ended_ns: int = 0
    title: str = ""

    @property
    def name(self) -> str:
        """The name of the record: that of its key, and the start of its result's digest."""
        return f"{self.key_name}-{hex_of(self._result())[:RESULT_DIGITS]}"

    @property
    def key_name(self) -> str:
        """The start of the key's digest."""
        return key_name(self.key)

    def _result(self) -> Digest:
        told = [self.key, self.kind, list(self.diff_ids), bool(self.blobs), self.value]
        return digest_of(json.dumps(told).encode())

    def to_json(self) -> bytes:
        """Return the record; equal entries give equal bytes."""
        fields: dict[str, object] = {
            "version": VERSION,
            "key": self.key,
            "kind": self.kind,
            "diff_ids": list(self.diff_ids),
            "blobs": [[b.digest, b.size_bytes, b.media_type] for b in self.blobs],
            "value": self.value,
            "created": self.created,
            "started_ns": self.started_ns,
            "ended_ns": self.ended_ns,
            "title": self.title,
        }
        return encode({name: value for name, value in fields.items() if value or name == "version"})

    @classmethod
    def from_json(cls, data: bytes, what: str) -> "CacheEntry":
        """Read a record. Raises Corrupt for what is none, or of a newer version."""
        fields = decode(data, what)
        if fields.integer("version") != VERSION:
            fields.fail("its version is not known")
        entry = cls(
            key=_digest(fields, fields.required_text("key")),
            kind=fields.required_text("kind"),
            diff_ids=tuple(DiffID(_digest(fields, item)) for item in fields.texts("diff_ids")),
            blobs=_blobs(data, fields),
            value=fields.text("value"),
            created=fields.text("created"),
            started_ns=fields.integer("started_ns"),
            ended_ns=fields.integer("ended_ns"),
            title=fields.text("title"),
        )
        if entry.blobs and len(entry.blobs) != len(entry.diff_ids):
            fields.fail("it has another number of blobs than of layers")
        return entry


def manifest_of(entry: CacheEntry) -> Manifest:
    """Return the manifest that holds a record and names its blobs, so that nobody collects them."""
    config = Descriptor(mediatypes.OCI_EMPTY, digest_of(EMPTY), len(EMPTY))
    layers = tuple(Descriptor(b.media_type, b.digest, b.size_bytes) for b in entry.blobs)
    annotations = {RECORD: entry.to_json().decode()}
    return Manifest(config, layers or (config,), artifact_type=ARTIFACT, annotations=annotations)


def manifest_of_note(blob: BlobRef) -> Manifest:
    """Return the manifest that keeps the blob of a note."""
    config = Descriptor(mediatypes.OCI_EMPTY, digest_of(EMPTY), len(EMPTY))
    layer = Descriptor(blob.media_type, blob.digest, blob.size_bytes)
    return Manifest(config, (layer,), artifact_type=ARTIFACT)


def key_name(key: Digest) -> str:
    """Return the name under which all results of a key are found."""
    return hex_of(key)[:KEY_DIGITS]


def memo_key(namespace: str, selector: str) -> Digest:
    """Return the key of a memo."""
    return digest_of(f"{namespace}\0{selector}".encode())


def shortened(value: str) -> str:
    """Return a memo's value without its list of files where that is long."""
    if len(value) <= _LONGEST_MEMO:
        return value
    found = json.loads(value)
    return json.dumps([found[0], []]) if isinstance(found, list) else value


def _digest(fields: Fields, text: str) -> Digest:
    if not is_digest(text):
        fields.fail(f"{text!r} is no digest")
    return Digest(text)


def _blobs(data: bytes, fields: Fields) -> tuple[BlobRef, ...]:
    found = []
    for item in json.loads(data).get("blobs") or ():
        match item:
            case [str(digest), int(size), str(media_type)] if (
                is_digest(digest) and size >= 0 and mediatypes.is_layer(media_type)
            ):
                found.append(BlobRef(Digest(digest), size, media_type))
            case _:
                raise Corrupt(f"{fields.what}: {item!r} is no blob of a layer")
    return tuple(found)
