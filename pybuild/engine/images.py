"""What can be asked about images and done to their names.

Owns docker's view of an image (`inspect`, `history`). Refuses to know how images are made and how
they are printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pybuild.engine.filters import Filters
from pybuild.times import parse_time
from values.classes import dataclass

if TYPE_CHECKING:
    from store.digest import DiffID, Digest
    from store.images import Image
    from store.oci import HistoryEntry
    from store.reference import Reference
    from store.root import Store


IMAGE_FILTERS = ("before", "dangling", "label", "label!", "reference", "since", "until")


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


def images(
    store: Store,
    pattern: str | None = None,
    filters: Filters | None = None,
    *,
    everything: bool = False,
) -> list[tuple[Image, tuple[Reference, ...]]]:
    """Return the images, newest first, each with its names in order.

    pattern: only names that it matches, as `debian`, `debian:12` or `web/*`; None for all images,
    those without a name too. filters: of IMAGE_FILTERS. everything: images of other platforms too,
    which have no name but that of the index they came with.
    Raises NotFound for a `before` or `since` that is not there.
    """
    from store.reference import Reference

    filters = filters or Filters({})
    patterns = (*filters.values("reference"), *((pattern,) if pattern is not None else ()))
    dangling, until = filters.boolean("dangling"), filters.before_s()
    earlier = [created_s(store.images.find(name)) for name in filters.values("before")]
    later = [created_s(store.images.find(name)) for name in filters.values("since")]
    hidden = set() if everything else members_of_indexes(store)
    found = []
    for image in store.images.list():
        created = created_s(image)
        fits = (
            (dangling is None or dangling is not bool(image.references))
            and all(created < limit for limit in earlier)
            and all(created > limit for limit in later)
            and (until is None or created <= until)
            and filters.fit_labels(dict(image.config.config.labels))
            and (bool(image.references) or image.id not in hidden)
        )
        names = tuple(r for r in image.references if not patterns or _fits(r, patterns))
        if fits and (names or not patterns):
            found.append((image, tuple(sorted(names, key=Reference.familiar))))
    found.sort(key=lambda pair: (created_s(pair[0]), pair[0].id), reverse=True)
    return found


def created_s(image: Image) -> float:
    """Return when an image was made, in seconds since 1970; 0 where it does not say."""
    created = parse_time(image.config.created)
    return created.timestamp() if created else 0.0


def members_of_indexes(store: Store) -> set[Digest]:
    """Return the images that a named index leads to: they need no name of their own."""
    from store.errors import Corrupt
    from store.indexes import configs

    found: set[Digest] = set()
    for image_id in store.images.ids():
        try:
            for reference in store.images.references(image_id):
                record = store.images.reference(reference)
                if record is not None:
                    found.update(configs(store.content, record.target))
        except Corrupt as error:
            store.note_damage(Corrupt(str(error), hint="pybuild cache verify drops it"))
    return found


def find(
    store: Store, name: str, platform: str | None = None, *, any_object: bool = False
) -> Image:
    """Return the image that `name` means: a reference, an ID or the start of one.

    platform: which image of an index. any_object: a container was looked for too.
    Raises NotFound, Ambiguous, PybuildError.
    """
    from pybuild.engine.registries import platform_of
    from store.errors import NotFound

    try:
        return store.images.find(name, platform=platform_of(platform))
    except NotFound as error:
        if any_object and platform is None:
            raise NotFound(f"no such object: {name}") from error
        raise


def tag(store: Store, source: str, target: str) -> None:
    """Give the image that `source` names the name `target` too.

    Raises NotFound, Ambiguous and InvalidReference.
    """
    from store.reference import Reference

    reference = Reference.parse_new(target)
    image_id, _ = store.images.resolve(source)
    store.images.tag(image_id, reference)


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


def _fits(reference: Reference, patterns: Sequence[str]) -> bool:
    """Tell whether one of docker's patterns matches: of the name, or of name and tag."""
    from grammar.glob import match

    if any(pattern in (reference.name, str(reference)) for pattern in patterns):
        return True  # the whole name, which docker does not know
    familiar = (reference.familiar_name, reference.familiar())
    return any(match(pattern, text) for pattern in patterns for text in familiar)


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
