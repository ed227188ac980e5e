"""What an image index leads to, as far as it is in the store.

An index names an image for each platform; which of them are here is nobody's promise.
"""

from collections.abc import Iterator
from contextlib import suppress

from store import mediatypes
from store.content import ContentStore
from store.digest import Digest, is_digest
from store.errors import Corrupt, NotFound
from store.oci import Descriptor, Index, Manifest

_DEEPEST = 4


def documents(
    content: ContentStore, target: Descriptor, depth: int = _DEEPEST
) -> Iterator[tuple[Descriptor, bytes]]:
    """Yield `target` and the manifests and indexes below it that are here, each with its bytes.

    Raises Corrupt for one that is damaged.
    """
    if not is_digest(target.digest) or not content.has(target.digest):
        return
    data = content.get(target.digest)
    yield target, data
    if target.media_type in mediatypes.INDEXES and depth:
        for child in Index.from_json(data).manifests:
            yield from documents(content, child, depth - 1)


def configs(content: ContentStore, target: Descriptor) -> tuple[Digest, ...]:
    """Return the image IDs that `target`, an index, leads to; of a damaged one what can be told."""
    found: list[Digest] = []
    with suppress(Corrupt, NotFound):
        for descriptor, data in documents(content, target):
            if descriptor.media_type in mediatypes.MANIFESTS:
                found.append(Manifest.from_json(data).config.digest)
    return tuple(found)
