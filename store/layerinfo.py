"""What is recorded beside a layer's tree, and its file layer.json."""

import json
import os
from typing import Any

from store.digest import DiffID, Digest
from store.errors import Corrupt, NewerFormat
from values.classes import dataclass

VERSION = 1


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A layer's bytes as they came from outside, kept in the content store."""

    digest: Digest
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One stored layer.

    size_bytes: of its uncompressed tar. files: entries in the tar. content_bytes: sum of the sizes
    of its files. empty: it changes nothing. shareable: it means the same on every chain, since each
    parent directory and hard link target is inside. blob: the bytes it came as, if they are kept.
    created_ns: when this store got it.
    """

    diff_id: DiffID
    size_bytes: int
    files: int
    content_bytes: int
    empty: bool
    shareable: bool
    created_ns: int
    blob: BlobRef | None = None


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """A layer.json: the public part and what only the layer store needs.

    alias: name in l/ of the tree. whiteouts: how many there are; external: how many hard links to
    files below. opaque_root: it hides all below.
    displaced: data of replaced entries, see store.contents. fidelity: how well the tree holds what
    the tar says.
    """

    info: LayerInfo
    alias: str
    whiteouts: int = 0
    external: int = 0
    opaque_root: bool = False
    displaced: tuple[tuple[int, bytes, int], ...] = ()
    fidelity: str = "full"

    def to_json(self) -> bytes:
        """Return the file's bytes."""
        info = self.info
        blob = info.blob
        value: dict[str, Any] = {
            "version": VERSION,
            "diff_id": info.diff_id,
            "size_bytes": info.size_bytes,
            "files": info.files,
            "content_bytes": info.content_bytes,
            "empty": info.empty,
            "shareable": info.shareable,
            "created_ns": info.created_ns,
            "alias": self.alias,
            "whiteouts": self.whiteouts,
            "external": self.external,
            "opaque_root": self.opaque_root,
            "fidelity": self.fidelity,
        }
        if blob is not None:
            value["blob"] = {
                "digest": blob.digest,
                "size_bytes": blob.size_bytes,
                "media_type": blob.media_type,
            }
        if self.displaced:
            value["displaced"] = [[n, os.fsdecode(path), m] for n, path, m in self.displaced]
        return json.dumps(value, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, name: str) -> "LayerRecord":
        """Read the file's bytes. Raises Corrupt, NewerFormat; `name` says whose it is."""
        try:
            value = json.loads(data)
            if value["version"] > VERSION:
                raise NewerFormat(f"{name}: format {value['version']} is newer than {VERSION}")
            blob = value.get("blob")
            info = LayerInfo(
                DiffID(value["diff_id"]),
                value["size_bytes"],
                value["files"],
                value["content_bytes"],
                value["empty"],
                value["shareable"],
                value["created_ns"],
                BlobRef(Digest(blob["digest"]), blob["size_bytes"], blob["media_type"])
                if blob
                else None,
            )
            return cls(
                info,
                value["alias"],
                value["whiteouts"],
                value["external"],
                value["opaque_root"],
                tuple((n, os.fsencode(path), m) for n, path, m in value.get("displaced", ())),
                value["fidelity"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{name}: its layer.json is damaged: {error}") from error
