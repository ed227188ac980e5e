"""A finished image at its registries: `--push`, `--output type=registry`."""

from builder.request import BuildRequest, Output
from builder.site import Step
from builder.transfers import Narrator, access_of
from registry_client.push import push
from store.errors import StoreError
from store.images import Image
from store.manifests import Compression
from store.reference import Reference
from store.root import Store


def push_image(
    store: Store,
    image: Image,
    references: tuple[Reference, ...],
    output: Output,
    request: BuildRequest,
    step: Step,
) -> None:
    """Push `image` under all its references. Raises RegistryError, StoreError."""
    access = access_of(request, insecure=output.option("registry.insecure") == "true")
    for reference in references:
        step.message(f"pushing layers to {reference.name}")
        pushed = push(
            store,
            reference,
            image=image,
            compression=compression_of(output),
            access=access,
            on_event=Narrator(step),
        )
        step.message(f"pushing manifest for {reference}@{pushed.target.digest}")


def compression_of(output: Output) -> Compression:
    """Return how the output wants its layers compressed. Raises StoreError."""
    named = Compression.parse(output.option("compression") or "gzip")
    level = output.option("compression-level")
    if level is not None and not level.isdecimal():
        raise StoreError(f"compression-level={level}: not a number")
    force = output.option("force-compression") == "true"
    return Compression(named.algorithm, int(level) if level else None, force)
