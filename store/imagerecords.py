"""The records of images on disk: `images/ids/<hex>.json`, one an image, named by its ID."""

import os

from store import jsonrecords
from store.digest import Digest, hex_of, is_digest
from store.folder import Folder
from store.oci import Descriptor
from values.classes import dataclass

_VERSION = 1


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What `images/ids/<hex>.json` says; `references` may hold some that lead elsewhere by now."""

    id: Digest
    manifest: Descriptor | None = None
    references: tuple[str, ...] = ()
    tagged_ns: int = 0


class ImageRecords:
    """The image records of one store."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._root = folder.path("images", "ids")

    def _path(self, image_id: Digest) -> str:
        return os.path.join(self._root, f"{hex_of(image_id)}.json")

    def ids(self) -> list[Digest]:
        """Return the IDs of all images, sorted."""
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return []
        digests = (f"sha256:{name.removesuffix('.json')}" for name in sorted(names))
        return [Digest(digest) for digest in digests if is_digest(digest)]

    def read(self, image_id: Digest) -> ImageRecord | None:
        """Return the record of an image, or None. Raises Corrupt, NewerFormat."""
        fields = jsonrecords.read(self._path(image_id), "image record", _VERSION)
        if fields is None:
            return None
        manifest = fields.child("manifest")
        return ImageRecord(
            image_id,
            Descriptor.from_fields(manifest) if manifest else None,
            fields.texts("references"),
            fields.integer("tagged_ns"),
        )

    def write(self, record: ImageRecord) -> None:
        """Write a record, durably."""
        value = {
            "version": _VERSION,
            "image": record.id,
            "manifest": record.manifest.to_fields() if record.manifest else None,
            "tagged_ns": record.tagged_ns,
            "references": list(record.references),
        }
        jsonrecords.write(self._folder, self._path(record.id), value)

    def remove(self, image_id: Digest) -> bool:
        """Remove a record and return whether there was one."""
        return jsonrecords.remove(self._path(image_id), up_to=self._root)
