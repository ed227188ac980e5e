"""The records of image references on disk: which name means which image.

One JSON file a reference: `images/refs/<registry>/<repository>/@tags/<tag>.json`, or
`@digests/<hex>.json` for a name with a digest. `@` is in no repository's name, so the folders of
nested repositories cannot meet these. Callers hold the lock of the images while they change any.
"""

import os
from collections.abc import Iterator

from store import jsonrecords
from store.digest import Digest, hex_of, is_digest
from store.folder import Folder
from store.oci import Descriptor
from store.reference import Reference
from values.classes import dataclass

_VERSION = 1
_TAGS, _DIGESTS = "@tags", "@digests"


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """What a reference means.

    target: the config, manifest or index it points to. image_id: the image of it that is here.
    """

    reference: Reference
    target: Descriptor
    image_id: Digest


class ReferenceRecords:
    """The reference records of one store."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._root = folder.path("images", "refs")

    def path(self, reference: Reference) -> str:
        """Return where the record of `reference` lies. A digest counts more than a tag."""
        if reference.digest:
            return f"{self._repository(reference)}/{_DIGESTS}/{hex_of(reference.digest)}.json"
        return f"{self._repository(reference)}/{_TAGS}/{reference.tag}.json"

    def _repository(self, reference: Reference) -> str:
        return f"{self._root}/{reference.registry}/{reference.repository}"

    def read(self, reference: Reference) -> ReferenceRecord | None:
        """Return the record of `reference`, or None. Raises Corrupt, NewerFormat."""
        return self.read_path(self.path(reference))

    def read_path(self, path: str) -> ReferenceRecord | None:
        """Return the record at `path`, or None. Raises Corrupt, NewerFormat, InvalidReference."""
        fields = jsonrecords.read(path, "image reference", _VERSION)
        if fields is None:
            return None
        target = fields.child("target")
        image_id = fields.required_text("image")
        if target is None:
            fields.fail("field target is missing")
        if not is_digest(image_id):
            fields.fail(f"{image_id!r} is no image ID")
        return ReferenceRecord(
            Reference.parse(fields.required_text("reference")),
            Descriptor.from_fields(target),
            Digest(image_id),
        )

    def write(self, record: ReferenceRecord) -> None:
        """Write a record, durably."""
        value = {
            "version": _VERSION,
            "reference": str(record.reference),
            "image": record.image_id,
            "target": record.target.to_fields(),
        }
        jsonrecords.write(self._folder, self.path(record.reference), value)

    def remove(self, reference: Reference) -> bool:
        """Remove a record and return whether there was one."""
        return jsonrecords.remove(self.path(reference), up_to=self._root)

    def paths(self) -> Iterator[str]:
        """Yield the path of every record, sorted within each folder."""
        for folder, subfolders, names in os.walk(self._root):
            subfolders.sort()
            if os.path.basename(folder) in (_TAGS, _DIGESTS):
                yield from (f"{folder}/{name}" for name in sorted(names) if name.endswith(".json"))

    def tagged(self, reference: Reference) -> Iterator[ReferenceRecord]:
        """Yield the records of the tags in the repository of `reference`."""
        folder = f"{self._repository(reference)}/{_TAGS}"
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return
        for name in names:
            record = self.read_path(f"{folder}/{name}")
            if record is not None:
                yield record
