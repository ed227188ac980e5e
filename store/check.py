"""Checking a store: does everything hold what its name and its record say?

Reads all, changes nothing. Each problem is one plain sentence that names what is affected and
what to do; a store that only suffered a kill has none.
"""

import hashlib
import json
import os
from collections.abc import Iterator

from store import mediatypes
from store.digest import DiffID, Digest, hex_of
from store.errors import Corrupt, DiskFull, NotFound, StoreError
from store.folder import names_in
from store.keptsteps import layers_of
from store.layerinfo import LayerRecord
from store.oci import Descriptor, ImageConfig, Manifest
from store.restream import Source, stream
from store.root import Store
from values.classes import dataclass

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. what: the object. cause: what is wrong. hint: what to do.

    subject: its kind and name for who mends it: ("layer", diff_id), ("blob", digest),
    ("image", ID), ("manifest", the image's ID), ("reference", its record's path),
    ("records", ""), ("cache mount", its folder), ("kept step", the snapshot); empty where nothing
    can be dropped.
    """

    what: str
    cause: str
    hint: str = ""
    subject: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        text = f"{self.what}: {self.cause}"
        return f"{text} (hint: {self.hint})" if self.hint else text


def check(store: Store, deep: bool = False) -> list[Problem]:
    """Return what is wrong with the store, empty when it is sound.

    deep: recompute every blob's and every layer's digest, which reads everything; without it only
    the records are read, and whether what they name is there.
    Raises DiskFull when the build records cannot be read for want of room.
    """
    with store.lease():
        problems = [
            *_check_images(store),
            *_check_references(store),
            *_check_layers(store, deep),
            *_check_users(store),
            *_check_records(store),
            *_check_cache_mounts(store),
        ]
        return problems + list(_check_blobs(store)) if deep else problems


def _check_images(store: Store) -> Iterator[Problem]:
    for image_id in store.images.ids():
        what = f"image {image_id}"
        try:
            record = store.images.record(image_id)
            config = ImageConfig.from_json(store.content.get(image_id))
        except StoreError as error:
            hint = "remove the image and pull, load or build it again"
            yield Problem(what, str(error), hint, ("image", image_id))
            continue
        missing = [diff_id for diff_id in config.diff_ids if not store.layers.has(diff_id)]
        for diff_id in dict.fromkeys(missing):
            yield Problem(what, f"layer {diff_id} is not in the store", "pull or build it again")
        if record.manifest is not None:
            yield from _check_manifest(store, image_id, record.manifest)


def _check_manifest(store: Store, image_id: Digest, manifest: Descriptor) -> Iterator[Problem]:
    what, subject = f"image {image_id}", ("manifest", image_id)
    try:
        document = Manifest.from_json(store.content.get(manifest.digest))
    except StoreError as error:
        yield Problem(what, f"its manifest cannot be read: {error}", "", subject)
        return
    for layer in document.layers:
        if not store.content.has(layer.digest):
            cause = f"blob {layer.digest}, named by its manifest, is not in the store"
            yield Problem(what, cause, "", subject)
        elif store.content.size(layer.digest) != layer.size_bytes:
            cause = f"blob {layer.digest} has not the size that its manifest says"
            yield Problem(what, cause, "", subject)


def _check_references(store: Store) -> Iterator[Problem]:
    known = set(store.images.ids())
    for path in store.images.reference_paths():
        try:
            record = store.images.reference_at(path)
        except StoreError as error:
            hint = "remove the file and tag again"
            yield Problem(f"reference record {path}", str(error), hint, ("reference", path))
            continue
        if record is None:
            continue  # removed meanwhile
        what = f"reference {record.reference.familiar()}"
        if record.image_id not in known and record.image_id not in store.images.ids():
            cause = f"image {record.image_id} is not in the store"
            yield Problem(what, cause, "remove the tag", ("reference", path))
        is_document = record.target.media_type in mediatypes.INDEXES | mediatypes.MANIFESTS
        if is_document and not store.content.has(record.target.digest):
            cause = f"it points to {record.target.digest}, which is not in the store"
            yield Problem(what, cause, "", ("manifest", record.image_id))


def _check_layers(store: Store, deep: bool) -> Iterator[Problem]:
    for diff_id in list(store.layers.iter()):
        what = f"layer {diff_id}"
        try:
            record = store.layers.record(diff_id, fresh=True)
            blob = record.info.blob
            if blob is not None and not store.content.has(blob.digest):
                cause = f"its blob {blob.digest} is not in the store"
                yield Problem(what, cause, "", ("blob", blob.digest))
            yield from _check_alias(store, diff_id, record.alias)
            if deep:
                _read_layer(store, diff_id, record)
        except NotFound:
            continue  # removed meanwhile
        except (StoreError, OSError) as error:
            if store.layers.has(diff_id):
                hint = "remove what uses it and get it again"
                yield Problem(what, str(error), hint, ("layer", diff_id))


def _read_layer(store: Store, diff_id: DiffID, record: LayerRecord) -> None:
    """Make the layer's tar from its tree, even where a blob is kept. Raises Corrupt."""
    source = Source(store.layers.path(diff_id), "its files", record.displaced)
    digest = hashlib.sha256()
    for chunk in stream(source):
        digest.update(chunk)
    if f"sha256:{digest.hexdigest()}" != diff_id:
        raise Corrupt(f"its files give the digest sha256:{digest.hexdigest()}")


def _check_alias(store: Store, diff_id: DiffID, alias: str) -> Iterator[Problem]:
    """Check the layer's short name in l/, which mounts use.

    An alias that leads nowhere is no problem: its maker was killed, or its layer removed.
    """
    target = f"../layers/sha256/{hex_of(diff_id)}/fs"
    try:
        actual = os.readlink(store.folder.path("l", alias))
    except OSError:
        actual = ""
    if actual != target and store.layers.has(diff_id):
        cause = (
            f"its alias l/{alias} leads to {actual}" if actual else f"its alias l/{alias} is gone"
        )
        hint = "remove what uses it and get it again"
        yield Problem(f"layer {diff_id}", cause, hint, ("layer", diff_id))


def _check_users(store: Store) -> Iterator[Problem]:
    """Check that the layers of containers and of kept steps are there."""
    for name in store.snapshots.kept():
        what = f"snapshot {name}"
        try:
            note = store.snapshots.note_of(name)
            needed = layers_of(store, name)
        except NotFound:
            continue  # removed meanwhile
        except StoreError as error:
            if _is_containers(store, name):
                yield Problem(what, str(error), "remove its container")
            else:
                hint = "pybuild cache verify drops it: what is kept of a build's step"
                yield Problem(what, str(error), hint, ("kept step", name))
            continue
        hint = f"pybuild builds rm {note.get('build')}" if note else "remove its container"
        for diff_id in sorted(needed):
            if not store.layers.has(diff_id):
                yield Problem(what, f"layer {diff_id} is not in the store", hint)


def _is_containers(store: Store, snapshot: str) -> bool:
    """Tell whether a container's record names a snapshot, or cannot be read."""
    folder = store.folder.path("containers")
    for name in names_in(folder):
        if name.endswith(".json"):
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    known = json.load(file)
            except (OSError, ValueError):
                return True
            if not isinstance(known, dict) or known.get("snapshot") == snapshot:
                return True
    return False


def _check_records(store: Store) -> Iterator[Problem]:
    if not os.path.exists(store.folder.path("records.db")):
        return
    hint = "remove records.db and its -wal and -shm files; only the build cache is lost"
    try:
        for cause in store.records.problems():
            yield Problem("build records", cause, hint, ("records", ""))
    except DiskFull:
        raise  # no damage, and nothing to be removed
    except StoreError as error:
        yield Problem("build records", str(error), hint, ("records", ""))


def _check_cache_mounts(store: Store) -> Iterator[Problem]:
    for name, cause in store.cache_mounts.problems():
        hint = f"remove cachemounts/{name}; only what steps keep there is lost"
        yield Problem(f"cache mount {name}", cause, hint, ("cache mount", name))


def _check_blobs(store: Store) -> Iterator[Problem]:
    for digest in list(store.content.iter()):
        try:
            actual = _digest_of_blob(store, digest)
        except NotFound:
            continue  # removed meanwhile
        except OSError as error:
            yield Problem(f"blob {digest}", str(error), "", ("blob", digest))
            continue
        if actual != digest:
            path = f"blobs/sha256/{hex_of(digest)}"
            hint = f"remove {path} and pull, load or build what uses it again"
            yield Problem(
                f"blob {digest}", f"its bytes have digest {actual}", hint, ("blob", digest)
            )


def _digest_of_blob(store: Store, digest: Digest) -> Digest:
    state = hashlib.sha256()
    with store.content.open(digest) as file:
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
    return Digest(f"sha256:{state.hexdigest()}")
