"""A finished image at its registries: `--push`, `--output type=registry`."""

from builder.export.forms import compression_of
from builder.request import BuildRequest, Output
from builder.site import Site, Step
from builder.transfers import Narrator, access_of
from registry_client.manifests import Document
from registry_client.push import Shipment, ship
from store.digest import DiffID, Digest
from store.images import Image
from store.layers import BlobRef
from store.oci import Descriptor
from store.reference import Reference
from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes to registries for one output.

    layers: which layer a blob is that may not be here.
    """

    site: Site
    request: BuildRequest
    output: Output
    layers: dict[Digest, DiffID]

    def fetch(self, blob: Descriptor) -> bool:
        """Bring the blob of an absent layer here; tell whether that could be done."""
        if blob.digest not in self.layers:
            return False
        ref = BlobRef(blob.digest, blob.size_bytes, blob.media_type)
        return self.site.absent.bring_blob(ref, self.layers[blob.digest])

    def sources(self, registry: str) -> dict[Digest, str]:
        """Return the repositories of a registry that have blobs which are not here."""
        return {
            origin.blob.digest: origin.repository
            for diff_id in self.layers.values()
            for origin in self.site.absent.origins(diff_id)
            if origin.host == registry and origin.repository
        }


def push_image(
    parcel: Parcel, reference: Reference, image: Image, root: Descriptor | None, step: Step
) -> Descriptor:
    """Push an image; return what the reference names then. Raises RegistryError, StoreError.

    root: the manifest or index that it is to name, None for the image's own.
    """
    content, output = parcel.site.store.content, parcel.output
    shipment = Shipment(
        image,
        Document(root, content.get(root.digest)) if root is not None else None,
        compression_of(output),
        output.is_on("push-by-digest"),
        parcel.sources(reference.registry),
        parcel.fetch,
    )
    step.message(f"pushing layers to {reference.name}")
    access = access_of(parcel.request, insecure=output.is_on("registry.insecure"))
    narrator = Narrator(step)
    pushed = ship(parcel.site.store, reference, shipment, access=access, on_event=narrator)
    step.message(f"pushing manifest for {reference}@{pushed.target.digest}", done=True)
    return pushed.target
