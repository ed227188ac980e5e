"""What can be asked about images and done to their names.

Owns docker's view of an image (`inspect`, `history`). Refuses to know how images are made and how
they are printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pybuild.errors import ContainerError, PybuildError

if TYPE_CHECKING:
    from store.digest import DiffID, Digest
    from store.images import Image
    from store.oci import HistoryEntry
    from store.reference import Reference
    from store.root import Store


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """A line of an image's history, newest first.

    image_id: the image's own on the newest line, None below: those images do not exist.
    size_bytes: what the line's layer holds; 0 for a line without one.
    """

    image_id: str | None
    created: str | None
    created_by: str
    comment: str
    size_bytes: int


def images(store: Store, pattern: str | None = None) -> list[tuple[Image, tuple[Reference, ...]]]:
    """Return the images, newest first, each with its names in order.

    pattern: only names that it matches, as `debian`, `debian:12` or `web/*`; None for all images,
    those without a name too.
    """
    from store.reference import Reference

    found = []
    for image in store.images.list():
        fitting = (r for r in image.references if pattern is None or _fits(r, pattern))
        names = tuple(sorted(fitting, key=Reference.familiar))
        if names or pattern is None:
            found.append((image, names))
    found.sort(key=lambda pair: (pair[0].config.created or "", pair[0].id), reverse=True)
    return found


def tag(store: Store, source: str, target: str) -> None:
    """Give the image that `source` names the name `target` too.

    Raises NotFound, Ambiguous and InvalidReference.
    """
    from store.reference import Reference

    reference = Reference.parse(target)
    if reference.digest:
        raise PybuildError(f"tag {target}: a name with a digest cannot be given")
    image_id, _ = store.images.resolve(source)
    store.images.tag(image_id, reference)


def remove(store: Store, name: str, *, force: bool) -> list[str]:
    """Take the name `name` away, and with the last one the image; return what was done.

    An ID removes the image with its names; several names need `force`. Raises NotFound, Ambiguous,
    InUse, and ContainerError while a container is made of the image (unless `force`).
    """
    from pybuild.engine.records import containers_of
    from store.gc import discard

    image_id, reference = store.images.resolve(name)
    is_last = reference is None or len(store.images.references(image_id)) < 2
    users = containers_of(store.root, image_id)
    if is_last and users and not force:
        raise ContainerError(
            f"remove image {name}: container {users[0].id[:12]} ({users[0].name}) is made of it",
            hint=f"remove it first: pybuild rm {users[0].name}",
        )
    layers, blobs = _parts(store, image_id)
    lines = store.images.remove(name, force=force)
    if f"Deleted: {image_id}" in lines:
        lines += [f"Deleted: {diff_id}" for diff_id in discard(store, layers=layers, blobs=blobs)]
    return lines


def describe(image: Image) -> dict[str, object]:
    """Return what docker's `inspect` says about `image`, as JSON values."""
    config = image.config
    comment = next((h.comment for h in reversed(config.history) if h.comment), "")
    described: dict[str, object] = {
        "Id": image.id,
        "RepoTags": sorted(r.familiar() for r in image.references if r.tag),
        "RepoDigests": sorted(r.familiar() for r in image.references if r.digest),
        "Comment": comment,
        "Created": config.created or "",
        "Author": config.author,
        "Config": config.config.to_fields(),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.size_bytes,
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": _last_tagged(image)},
    }
    if not config.variant:
        del described["Variant"]
    if image.manifest is not None:
        described["Descriptor"] = image.manifest.to_fields()
    return described


def history(store: Store, image: Image) -> list[HistoryLine]:
    """Return the lines of `image`'s history, newest first.

    Layers that the history does not tell of (some tools write none) get a line of their own.
    """
    sizes = [_content_bytes(store, diff_id) for diff_id in image.config.diff_ids]
    lines: list[HistoryLine] = []
    for entry, size in _with_sizes(image.config.history, sizes):
        lines.append(
            HistoryLine(
                image_id=None,
                created=entry.created if entry else None,
                created_by=(entry.created_by or "") if entry else "",
                comment=(entry.comment or "") if entry else "",
                size_bytes=size,
            )
        )
    lines.reverse()
    if lines:
        top = lines[0]
        lines[0] = HistoryLine(image.id, top.created, top.created_by, top.comment, top.size_bytes)
    return lines


def _fits(reference: Reference, pattern: str) -> bool:
    return any(
        fnmatchcase(text, pattern)
        for text in (reference.familiar_name, reference.familiar(), reference.name, str(reference))
    )


def _parts(store: Store, image_id: Digest) -> tuple[list[DiffID], list[Digest]]:
    """Return the layers and the blobs that may go with an image; none of a damaged one.

    What is not named here is left to the next collection.
    """
    from store.errors import StoreError

    try:
        image = store.images.get(image_id)
        layers = [diff_id for diff_id in image.config.diff_ids if store.layers.has(diff_id)]
        packed = [store.layers.info(diff_id).blob for diff_id in layers]
    except StoreError:
        return [], []
    blobs = [image_id, *(blob.digest for blob in packed if blob is not None)]
    if image.manifest is not None:
        blobs.append(image.manifest.digest)
    return layers, blobs


def _content_bytes(store: Store, diff_id: DiffID) -> int:
    return store.layers.info(diff_id).content_bytes if store.layers.has(diff_id) else 0


def _with_sizes(
    entries: tuple[HistoryEntry, ...], sizes: list[int]
) -> Iterator[tuple[HistoryEntry | None, int]]:
    rest = iter(sizes)
    for entry in entries:
        yield entry, 0 if entry.empty_layer else next(rest, 0)
    yield from ((None, size) for size in rest)


def _last_tagged(image: Image) -> str:
    when = datetime.fromtimestamp(image.tagged_ns / 1e9, UTC)
    return when.isoformat().replace("+00:00", "Z")
