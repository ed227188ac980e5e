"""Images: what is stored under an image ID, and the names that lead there.

An image is its config; its ID is the config's digest. Beside it lies a JSON record,
`<root>/images/ids/<hex>.json`: the manifest once one was made, when the image was last tagged,
and the references that may lead to it. The truth about references are their own records
(store/references.py); the list here holds at least those, because it is written first when one
is added and last when one is removed, so a kill in between leaves nothing wrong.

Changes are made under the lock `images`, which garbage collection takes too.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from store import mediatypes
from store.checkpoint import checkpoint
from store.digest import DiffID, Digest, hex_of, is_digest
from store.errors import Ambiguous, Corrupt, DiskFull, InUse, InvalidReference, NotFound
from store.imagerecords import ImageRecord, ImageRecords
from store.oci import Descriptor, ImageConfig, Index, Manifest, Platform
from store.platforms import fits
from store.reference import Reference
from store.references import ReferenceRecord, ReferenceRecords
from values.classes import dataclass, field, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from store.root import Store

_SHORT_ID = re.compile(r"(?:sha256:)?([0-9a-f]{2,64})\Z")


@dataclass(frozen=True, slots=True)
class Image:
    """One stored image.

    manifest: the one made at the first save or push, or that came with the image; None before.
    references: complete, sorted by their spelling. tagged_ns: when it was stored or last tagged.
    """

    id: Digest
    config: ImageConfig
    manifest: Descriptor | None = None
    references: tuple[Reference, ...] = ()
    tagged_ns: int = 0
    _store: "Store | None" = field(default=None, repr=False, compare=False)

    @property
    def size_bytes(self) -> int:
        """The sum of the sizes of the files in the image's layers; absent layers count nothing."""
        if self._store is None:
            return 0
        layers = self._store.layers
        present = (diff_id for diff_id in self.config.diff_ids if layers.has(diff_id))
        return sum(layers.info(diff_id).content_bytes for diff_id in present)


_Images = list[Image]
_Lines = list[str]
_Digests = list[Digest]
_DiffIDs = list[DiffID]


class ImageStore:
    """The images of one store."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._images = ImageRecords(store.folder)
        self._references = ReferenceRecords(store.folder)

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the images still: nobody adds, tags or removes any."""
        with self._store.lock("images") as fd:
            yield fd

    # -- adding

    def add(
        self,
        config: ImageConfig | bytes,
        *,
        references: Sequence[Reference] = (),
        manifest: Descriptor | None = None,
        target: Descriptor | None = None,
    ) -> Image:
        """Store an image and let `references` lead to it; return it.

        config: its bytes as they came, or a config made here. manifest: where it came with one,
        whose blob is stored already. target: what the references point to (an index for example);
        by default the manifest, else the config. The caller holds a lease and has the layers.
        Raises Corrupt when the bytes are no image config.
        """
        data = config if isinstance(config, bytes) else config.to_json()
        parsed = ImageConfig.from_json(data)
        with self.lock():
            image_id = self._store.content.put(data)
            checkpoint("config-stored")
            old = self._images.read(image_id) or ImageRecord(image_id)
            record = replace(old, manifest=old.manifest or manifest)
            if record != old or old.tagged_ns == 0:
                self._images.write(replace(record, tagged_ns=time.time_ns()))
            if target is None:
                target = manifest or self._config_descriptor(image_id)
            for reference in references:
                self._point(reference, image_id, target)
            return self._image(parsed, self._known(image_id))

    def tag(
        self, image_id: Digest, reference: Reference, *, target: Descriptor | None = None
    ) -> None:
        """Let `reference` lead to an image; it leads nowhere else then.

        target: what it points to; by default the image's manifest, else its config.
        Raises NotFound, and InvalidReference for a digest that is not the target's.
        """
        with self.lock():
            record = self._known(image_id)
            if target is None:
                target = record.manifest or self._config_descriptor(image_id)
            self._point(reference, image_id, target)

    def _point(self, reference: Reference, image_id: Digest, target: Descriptor) -> None:
        if reference.digest:
            if target.digest != reference.digest:
                raise InvalidReference(
                    f"tag {reference.familiar()}: the digest is not the image's",
                    hint="a tag cannot be made from a reference with a digest",
                )
            reference = replace(reference, tag=None)
        wanted = ReferenceRecord(reference, target, image_id)
        before = self._references.read(reference)
        if before == wanted:
            return
        record = self._known(image_id)
        names = tuple(sorted({*record.references, str(reference)}))
        self._images.write(replace(record, references=names, tagged_ns=time.time_ns()))
        checkpoint("image-listed")
        self._references.write(wanted)
        checkpoint("reference-written")
        if before is not None and before.image_id != image_id:
            self._unlist(reference, before.image_id)

    def record_manifest(
        self, image_id: Digest, manifest: Descriptor, *, replacing: Descriptor | None = None
    ) -> Descriptor:
        """Record the manifest of an image unless it has one; return the one it has then.

        replacing: the recorded one when its blobs are lost; it gives way.
        """
        with self.lock():
            record = self._known(image_id)
            if record.manifest is None or record.manifest == replacing:
                self._images.write(replace(record, manifest=manifest))
                return manifest
            return record.manifest

    def _config_descriptor(self, image_id: Digest) -> Descriptor:
        return Descriptor(mediatypes.OCI_CONFIG, image_id, self._store.content.size(image_id))

    # -- looking up

    def has(self, image_id: Digest) -> bool:
        """Tell whether there is an image with this ID. Raises Corrupt, NewerFormat."""
        return self._images.read(image_id) is not None

    def get(self, image_id: Digest) -> Image:
        """Return the image with this ID. Raises NotFound, Corrupt."""
        record = self._known(image_id)
        return self._image(ImageConfig.from_json(self._store.content.get(image_id)), record)

    def find(self, name: str, *, platform: Platform | None = None) -> Image:
        """Return the image that `name` means: a reference, an ID, or the unique start of an ID.

        platform: wanted; a reference to an index may lead to several images.
        Raises NotFound, Ambiguous.
        """
        image_id, reference = self.resolve(name)
        image = self.get(image_id)
        if platform is None or fits(image.config.platform, platform):
            return image
        for other in self._siblings(reference):
            if fits(other.config.platform, platform):
                return other
        raise NotFound(f"no such image: {name} for platform {platform}")

    def resolve(self, name: str) -> tuple[Digest, Reference | None]:
        """Return the ID that `name` means, and the reference it is, or None where it is an ID.

        Does not read the image. Raises NotFound, Ambiguous.
        """
        if is_digest(name) or is_digest(f"sha256:{name}"):
            image_id = Digest(name if is_digest(name) else f"sha256:{name}")
            if self._images.read(image_id) is not None:
                return image_id, None
            raise NotFound(f"no such image: {name}")
        record = self._named(name)
        if record is not None:
            return record.image_id, record.reference
        match = _SHORT_ID.match(name)
        ids = [id for id in self.ids() if match and hex_of(id).startswith(match[1])]
        if len(ids) > 1:
            raise Ambiguous(
                f"image ID {name} is ambiguous: {len(ids)} images begin with it",
                hint="write more of its digits",
            )
        if not ids:
            raise NotFound(f"no such image: {name}")
        return ids[0], None

    def ids(self) -> _Digests:
        """Return the IDs of all images, sorted."""
        return self._images.ids()

    def list(self) -> _Images:
        """Return all images, those stored or tagged last first.

        One whose record or config cannot be read is left out, and the store is told.
        """
        images = []
        for image_id in self.ids():
            try:
                images.append(self.get(image_id))
            except NotFound:
                continue
            except Corrupt as error:
                self._store.note_damage(Corrupt(str(error), hint="pybuild cache verify drops it"))
        return sorted(images, key=lambda image: (-image.tagged_ns, image.id))

    def references(self, image_id: Digest) -> tuple[Reference, ...]:
        """Return the references that lead to an image, sorted. Raises NotFound."""
        return self._leading_to(self._known(image_id))

    def record(self, image_id: Digest) -> ImageRecord:
        """Return the image's record, without reading its config. Raises NotFound, Corrupt."""
        return self._known(image_id)

    def reference_file(self, reference: Reference) -> tuple[str, bytes, Digest] | None:
        """Return the record of a reference: its path in the store, its bytes, the image's ID."""
        record = self._references.read(reference)
        if record is None:
            return None
        path = self._references.path(reference)
        with open(path, "rb") as file:
            data = file.read()
        return os.path.relpath(path, self._store.root), data, record.image_id

    def files_of(self, image_id: Digest, chain: Sequence[DiffID]) -> Iterator[str]:
        """Yield the files of the store without which an image with these layers is not whole."""
        yield f"images/ids/{hex_of(image_id)}.json"
        yield f"blobs/sha256/{hex_of(image_id)}"
        yield from (f"layers/sha256/{hex_of(diff_id)}/layer.json" for diff_id in chain)

    def reference_paths(self) -> Iterator[str]:
        """Yield the path of every reference record."""
        return self._references.paths()

    def reference_at(self, path: str) -> ReferenceRecord | None:
        """Return the reference record at `path`, or None. Raises Corrupt, NewerFormat."""
        return self._references.read_path(path)

    def reference(self, reference: Reference) -> ReferenceRecord | None:
        """Return what a reference leads to, or None. Raises Corrupt, NewerFormat."""
        return self._references.read(reference)

    def reference_records(self) -> Iterator[ReferenceRecord]:
        """Yield every reference record. Raises Corrupt, NewerFormat."""
        records = map(self._references.read_path, self._references.paths())
        return (record for record in records if record is not None)

    def _named(self, name: str) -> ReferenceRecord | None:
        try:
            reference = Reference.parse(name)
        except InvalidReference:
            return None
        record, digest = self._references.read(reference), reference.digest
        if record is None and digest:
            # A tag of the same repository that points to this digest will do.
            fitting = (r for r in self._references.tagged(reference) if r.target.digest == digest)
            return next(fitting, None)
        return record

    def _siblings(self, reference: Reference | None) -> Iterator[Image]:
        """Yield the stored images of the index that `reference` points to."""
        record = self._references.read(reference) if reference else None
        if record is None or record.target.media_type not in mediatypes.INDEXES:
            return
        for manifest in Index.from_json(self._store.content.get(record.target.digest)).manifests:
            if self._store.content.has(manifest.digest):
                config = Manifest.from_json(self._store.content.get(manifest.digest)).config
                if self._images.read(config.digest) is not None:
                    yield self.get(config.digest)

    # -- removing

    def untag(self, reference: Reference) -> bool:
        """Remove a reference; its image stays, dangling when this was its last.

        Returns whether there was one.
        """
        with self.lock():
            record = self._references.read(reference)
            if record is None:
                return False
            self._untag(record.reference, record.image_id)
            return True

    def remove(self, name: str, *, force: bool = False) -> _Lines:
        """Remove what `name` means, as `docker rmi`; return its lines "Untagged: …", "Deleted: …".

        By reference: the reference goes, and with the last one the image. By ID: image and
        references; more than one tag or repository needs `force`. Layers that nothing else uses
        go with the image, unless a build is running; the next garbage collection takes those.
        Raises NotFound, Ambiguous, InUse.
        """
        from store import gc

        with self.lock():
            image_id, reference = self.resolve(name)
            references = self._leading_to(self._known(image_id))
            if reference is None and not force and not _is_single(references):
                raise InUse(
                    f"remove image {name}: {len(references)} references lead to it",
                    hint="remove the references one by one, or force it",
                )
            going = references if reference is None else _with_digests(reference, references)
            lines = [f"Untagged: {gone.familiar()}" for gone in going]
            if len(going) < len(references):
                for gone in going:
                    self._untag(gone, image_id)
                return lines
            gc.make_ready(self._store)
            for gone in going:
                self._references.remove(gone)
                checkpoint("reference-removed")
            layers, blobs = self._parts(image_id)
            checkpoint("image-unnamed")
            self._images.remove(image_id)
            checkpoint("image-removed")
        freed = gc.discard(self._store, layers=layers, blobs=blobs)
        return [*lines, f"Deleted: {image_id}", *(f"Deleted: {diff_id}" for diff_id in freed)]

    def _parts(self, image_id: Digest) -> tuple[_DiffIDs, _Digests]:
        """Return the layers and blobs of an image, as far as they can be told."""
        blobs = [image_id]
        diff_ids: _DiffIDs = []
        with suppress(NotFound, Corrupt):
            diff_ids = list(self.get(image_id).config.diff_ids)
        manifest = self._known(image_id).manifest
        if manifest is not None:
            blobs.append(manifest.digest)
            with suppress(NotFound, Corrupt):
                document = Manifest.from_json(self._store.content.get(manifest.digest))
                blobs += [layer.digest for layer in document.layers]
        return diff_ids, blobs

    def _untag(self, reference: Reference, image_id: Digest) -> None:
        self._references.remove(reference)
        checkpoint("reference-removed")
        with suppress(DiskFull):  # the list may hold more
            self._unlist(reference, image_id)

    def _unlist(self, reference: Reference, image_id: Digest) -> None:
        """Take a reference that leads elsewhere by now off an image's list."""
        image = self._images.read(image_id)
        if image is not None and str(reference) in image.references:
            names = tuple(name for name in image.references if name != str(reference))
            self._images.write(replace(image, references=names))

    def _known(self, image_id: Digest) -> ImageRecord:
        record = self._images.read(image_id)
        if record is None:
            raise NotFound(f"no such image: {image_id}")
        return record

    def _leading_to(self, record: ImageRecord) -> tuple[Reference, ...]:
        """Return those of the listed references that really lead to the image.

        One whose record is broken leads nowhere; `system check` names it.
        """
        leading = []
        for reference in map(Reference.parse, record.references):
            with suppress(Corrupt):
                led = self._references.read(reference)
                if led is not None and led.image_id == record.id:
                    leading.append(reference)
        return tuple(leading)

    def _image(self, config: ImageConfig, record: ImageRecord) -> Image:
        return Image(
            record.id,
            config,
            record.manifest,
            self._leading_to(record),
            record.tagged_ns,
            self._store,
        )


def _is_single(references: Sequence[Reference]) -> bool:
    """Tell whether at most one tag names an image, as docker counts when it removes by ID."""
    tags = [reference for reference in references if reference.tag]
    return len(tags) <= 1 and len({reference.name for reference in references}) <= 1


def _with_digests(reference: Reference, references: Sequence[Reference]) -> tuple[Reference, ...]:
    """Return what goes with `reference`: after a repository's last tag, its digests too."""
    here = [other for other in references if other.name == reference.name and other != reference]
    if reference.tag and not any(other.tag for other in here):
        return (reference, *here)
    return (reference,)
