"""Images go: `rmi` and `image prune`, by docker's rules; and containers: `container prune`.

Owns the rules: what a name or an ID takes away, and what a container protects. Refuses to know how
the store deletes. Source: moby `daemon/images/image_delete.go`, `image_prune.go`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pybuild.engine.containers import listed, settled
from pybuild.engine.filters import Filters
from pybuild.engine.images import created_s, members_of_indexes
from pybuild.engine.records import RUNNING, containers_of
from pybuild.errors import ContainerError
from pybuild.times import parse_time
from values.classes import dataclass

if TYPE_CHECKING:
    from pybuild.engine.records import ContainerRecord
    from store.digest import DiffID, Digest
    from store.images import Image
    from store.reference import Reference
    from store.root import Store

CONTAINER_FILTERS = ("label", "label!", "until")
PRUNE_FILTERS = ("dangling", "label", "label!", "until")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went: a line for each name and object, and how many bytes."""

    lines: tuple[str, ...]
    freed_bytes: int


def remove(store: Store, name: str, *, force: bool) -> list[str]:
    """Take the name `name` away, and with the last one the image; return what was done.

    An ID removes the image with all its names; names in several repositories need `force`, and so
    does an image of which an ended container is made. One that runs keeps its image.
    Raises NotFound, Ambiguous, ContainerError.
    """
    image_id, reference = store.images.resolve(name)
    references = store.images.references(image_id)
    users = _users(store, image_id)
    if reference is None:
        mixed = not is_single(references)
        _refuse_conflicts(image_id, users, mixed=mixed, force=force)
        return _delete(store, image_id)
    if users and not force and is_single(references):
        raise ContainerError(
            f'conflict: unable to remove repository reference "{name}" (must force) - container'
            f" {users[0].id[:12]} is using its referenced image {_short(image_id)}",
            hint=f"remove the container first: pybuild rm {users[0].name}",
        )
    going = _with_digests(reference, references)
    if len(going) == len(references) and not _runs(users):
        return _delete(store, image_id, first=reference)
    for gone in going:
        store.images.untag(gone)
    return [f"Untagged: {gone.familiar()}" for gone in going]


def prune(store: Store, filters: Filters, *, everything: bool = False) -> Pruned:
    """Remove the images without a tag that no container is made of.

    everything: those with tags too. filters: of PRUNE_FILTERS.
    """
    used = {record.image_id for record in listed(store, everything=True)}
    belonging = members_of_indexes(store)
    dangling, until = filters.boolean("dangling"), filters.before_s()
    only_dangling = not everything if dangling is None else dangling

    def goes(image: Image) -> bool:
        return (
            image.id not in used
            and (bool(image.references) or image.id not in belonging)
            and not (only_dangling and any(r.tag for r in image.references))
            and (until is None or created_s(image) <= until)
            and filters.fit_labels(dict(image.config.config.labels))
        )

    lines: list[str] = []
    freed = 0
    for image in filter(goes, store.images.list()):
        if store.images.has(image.id):  # else it went with its index
            parts = dict(_sizes(store, image.id))
            lines += _delete(store, image.id)
            freed += sum(size for part, size in parts.items() if not _is_here(store, part))
    return Pruned(tuple(lines), freed)


def prune_containers(store: Store, filters: Filters) -> Pruned:
    """Remove the containers that do not run. filters: of CONTAINER_FILTERS."""
    from pybuild.engine.containers import remove as remove_container

    until = filters.before_s()
    gone: list[str] = []
    freed = 0
    for record in listed(store, everything=True):
        created = parse_time(record.created)
        is_later = until is not None and created is not None and created.timestamp() > until
        if record.state == RUNNING or is_later or not filters.fit_labels(dict(record.labels)):
            continue
        size = tree_bytes(os.path.join(store.root, "snapshots", record.snapshot, "fs"))
        remove_container(store, record.id, force=False)
        gone.append(record.id)
        freed += size
    return Pruned(tuple(gone), freed)


def tree_bytes(folder: str) -> int:
    """Return the sum of the sizes of the files in a folder."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(folder)
        for name in names
    )


def is_single(references: Sequence[Reference]) -> bool:
    """Tell whether at most one tag names an image, and nothing in another repository."""
    tags = [reference for reference in references if reference.tag]
    return len(tags) <= 1 and len({reference.name for reference in references}) <= 1


def _with_digests(reference: Reference, references: Sequence[Reference]) -> tuple[Reference, ...]:
    """Return what goes with `reference`: after a repository's last tag, its digests too."""
    here = [other for other in references if other.name == reference.name and other != reference]
    if reference.tag and not any(other.tag for other in here):
        return (reference, *here)
    return (reference,)


def _refuse_conflicts(
    image_id: Digest, users: Sequence[ContainerRecord], *, mixed: bool, force: bool
) -> None:
    for record in users:
        if record.state == RUNNING:
            cause = f"image is being used by running container {record.id[:12]}"
            raise _conflict(image_id, "cannot be forced", cause)
    if force:
        return
    if mixed:
        cause = "image is referenced in multiple repositories"
        raise _conflict(image_id, "must be forced", cause)
    if users:
        cause = f"image is being used by stopped container {users[0].id[:12]}"
        raise _conflict(image_id, "must be forced", cause)


def _conflict(image_id: Digest, way: str, cause: str) -> ContainerError:
    return ContainerError(f"conflict: unable to delete {_short(image_id)} ({way}) - {cause}")


def _delete(store: Store, image_id: Digest, first: Reference | None = None) -> list[str]:
    """Delete an image with its names, and what only it had; return a line for each.

    first: the name whose line comes first.
    """
    from store.gc import discard

    followers = _followers(store, image_id)
    layers, blobs = _parts(store, image_id)
    lines = store.images.remove(image_id, force=True)
    if first is not None:
        lines.sort(key=lambda line: line != f"Untagged: {first.familiar()}")
    lines += [f"Deleted: {diff_id}" for diff_id in discard(store, layers=layers, blobs=blobs)]
    for other in followers:
        if not store.images.references(other) and not _users(store, other):
            lines += _delete(store, other)
    return lines


def _followers(store: Store, image_id: Digest) -> list[Digest]:
    """Return the images of other platforms that only the indexes of this one's names lead to."""
    from store.indexes import configs

    found: set[Digest] = set()
    for reference in store.images.references(image_id):
        record = store.images.reference(reference)
        if record is not None:
            found.update(configs(store.content, record.target))
    return sorted(other for other in found - {image_id} if store.images.has(other))


def _parts(store: Store, image_id: Digest) -> tuple[list[DiffID], list[Digest]]:
    """Return the layers and the blobs that may go with an image; none of a damaged one.

    What is not named here is left to the next collection.
    """
    from store.errors import StoreError
    from store.indexes import documents
    from store.oci import Manifest

    try:
        image = store.images.get(image_id)
        layers = [diff_id for diff_id in image.config.diff_ids if store.layers.has(diff_id)]
        packed = [store.layers.info(diff_id).blob for diff_id in layers]
        blobs = [image_id, *(blob.digest for blob in packed if blob is not None)]
        if image.manifest is not None and store.content.has(image.manifest.digest):
            manifest = Manifest.from_json(store.content.get(image.manifest.digest))
            blobs += [image.manifest.digest, *(layer.digest for layer in manifest.layers)]
        for reference in image.references:
            record = store.images.reference(reference)
            if record is not None:
                found = documents(store.content, record.target)
                blobs += [descriptor.digest for descriptor, _ in found]
    except StoreError:
        return [], []
    return layers, blobs


def _sizes(store: Store, image_id: Digest) -> Iterator[tuple[tuple[str, str], int]]:
    layers, blobs = _parts(store, image_id)
    for diff_id in layers:
        yield ("layer", diff_id), store.layers.info(diff_id).content_bytes
    for digest in blobs:
        if store.content.has(digest):
            yield ("blob", digest), store.content.size(digest)


def _is_here(store: Store, part: tuple[str, str]) -> bool:
    from store.digest import DiffID, Digest

    kind, name = part
    return store.layers.has(DiffID(name)) if kind == "layer" else store.content.has(Digest(name))


def _users(store: Store, image_id: Digest) -> list[ContainerRecord]:
    """Return the containers made of an image, those that run first."""
    settled_now = (settled(store, record) for record in containers_of(store, image_id))
    users = [record for record in settled_now if record is not None]
    return sorted(users, key=lambda record: record.state != RUNNING)


def _runs(users: Sequence[ContainerRecord]) -> bool:
    return any(record.state == RUNNING for record in users)


def _short(image_id: Digest) -> str:
    return image_id.rpartition(":")[2][:12]
