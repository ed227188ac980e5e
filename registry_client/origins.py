"""Where an image has been: repositories that have its blobs, as the store's names tell.

Names with a digest come from a pull or a push, so they say what has been at a registry.
"""

from store.errors import Corrupt, NotFound
from store.images import Image
from store.reference import Reference
from store.root import Store


def origins(store: Store, image: Image) -> list[Reference]:
    """Return the names with a digest under which the image has been at registries."""
    return [
        record.reference
        for record in store.images.reference_records()
        if record.image_id == image.id and record.reference.digest
    ]


def neighbour(store: Store, image: Image, target: Reference) -> str:
    """Return another repository of the target's registry that has layers of the image, or "".

    One that has had the image itself comes first, then the one with the most of its layers.
    """

    def is_neighbour(other: Reference) -> bool:
        return other.registry == target.registry and other.repository != target.repository

    for origin in origins(store, image):
        if is_neighbour(origin):
            return origin.repository
    wanted = set(image.config.diff_ids)
    shared: dict[str, int] = {}
    for record in store.images.reference_records():
        other = record.reference
        if other.digest and is_neighbour(other):
            try:
                layers = store.images.get(record.image_id).config.diff_ids
            except (NotFound, Corrupt):
                continue  # `system check` names it
            count = len(wanted.intersection(layers))
            shared[other.repository] = max(count, shared.get(other.repository, 0))
    best = max(shared, key=lambda name: shared[name], default="")
    return best if shared.get(best) else ""
