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

_MOST = {"none": 0, "gzip": 9, "zstd": 22}


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
    text = output.option("compression-level")
    level = int(text) if text is not None and text.isdecimal() else None
    most = _MOST[named.algorithm]
    if text is not None and (level is None or level > most):
        raise StoreError(f"compression-level={text}: not a number from 0 to {most}")
    return Compression(named.algorithm, level, output.option("force-compression") == "true")
