"""The image that a build makes, recorded in the store under its tags."""

from builder.site import Step
from store.images import Image
from store.oci import ImageConfig
from store.reference import Reference
from store.root import Store


def write_image(
    store: Store, config: ImageConfig, references: tuple[Reference, ...], step: Step
) -> Image:
    """Record an image and point `references` at it."""
    image = store.images.add(config, references=references)
    step.message(f"writing image {image.id}")
    for reference in references:
        step.message(f"naming to {reference}")
    return image
