"""From what was built to its outputs: images in the store and at registries, archives, folders."""

import os
from collections.abc import Callable, Sequence

from builder.errors import LayersLost
from builder.export import provenance, sbom
from builder.export.attestations import Statement
from builder.export.destinations import IMAGE_TYPES, ROOTFS_TYPES
from builder.export.forms import Form, form_of
from builder.export.products import (
    Documents,
    Product,
    Variant,
    documents_of,
    in_form,
    references_of,
)
from builder.export.provenance import Facts
from builder.packages import packages_of
from builder.request import BuildRequest, Output
from builder.site import Site, Step
from runtime.mounting import open_overlay
from store import platforms
from store.digest import DiffID, Digest
from store.images import Image
from store.layers import BlobRef
from store.manifests import Compression, layer_blob, manifest_of
from store.oci import Descriptor, Manifest
from store.reference import Reference
from values.classes import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the outputs came to.

    image_id: of the build's own target, None when no image was asked for. metadata: what
    `--metadata-file` says, buildx's keys.
    """

    image_id: Digest | None = None
    metadata: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Made:
    """A product in the form of one output.

    image: of the platform that is this machine's, else of the first. documents: None where the
    image's own manifest will do.
    """

    product: Product
    image: Image
    documents: Documents | None
    is_stored: bool

    @property
    def target(self) -> Descriptor | None:
        """What its references lead to, None for the image's own manifest or config."""
        return self.documents.root if self.documents is not None else None


class Exporter:
    """Writes the outputs of one build."""

    def __init__(
        self,
        site: Site,
        request: BuildRequest,
        outputs: Sequence[Output],
        facts: Callable[[], Facts],
    ) -> None:
        """Take what to write; `facts` gives what provenance says of the build."""
        self._facts = facts
        self.site = site
        self.store = site.store
        self.request = request
        self.outputs = outputs
        self._made: dict[tuple[str, Form], _Made] = {}

    def run(self, products: Sequence[Product]) -> Delivered:
        """Write all outputs. products: that of the build's own target first.

        Raises ExportError, BuildError, StoreError, RegistryError.
        """
        for output in self.outputs:
            if output.type in ROOTFS_TYPES:
                from builder.export.rootfs import write_rootfs

                write_rootfs(self.site, products[0], output, self._attest_beside)
        images = [output for output in self.outputs if output.type in IMAGE_TYPES]
        if not images:
            return Delivered(metadata={"buildx.build.ref": self.site.build_id})
        step = self.site.progress.begin("exporting to image")
        try:
            delivered = [self._write(output, products, step) for output in images]
        except BaseException as error:
            step.failed(error)
            raise
        step.done()
        chosen = next((number for number, o in enumerate(images) if o.type == "image"), 0)
        return delivered[chosen]

    def _write(self, output: Output, products: Sequence[Product], step: Step) -> Delivered:
        made = []
        for product in products:
            references = references_of(product, output)
            made.append((self._make(product, references, output, step), references))
        targets: list[Descriptor | None] = [one.target for one, _ in made]
        if output.type in ("oci", "docker"):
            targets = self._archive(made, output, step)
        elif output.is_pushed:
            targets = [self._push(one, names, output, step) for one, names in made]
        return self._delivered(made[0][0], made[0][1], targets[0])

    # -- images

    def _make(
        self, product: Product, references: Sequence[Reference], output: Output, step: Step
    ) -> _Made:
        """Make a product in a form, once, and keep it in the store under its references."""
        form = form_of(self.request, output)
        key = (product.stage, form)
        if key not in self._made:
            self._made[key] = self._new(product, form, output, step)
        made = self._made[key]
        if made.is_stored and not output.is_on("push-by-digest"):
            for reference in references:
                self.store.images.tag(made.image.id, reference, target=made.target)
                step.message(f"naming to {reference}", done=True)
        return made

    def _new(self, product: Product, form: Form, output: Output, step: Step) -> _Made:
        if (output.type == "image" and not output.is_pushed) or form.is_rewritten:
            for variant in product.variants:
                self.site.absent.need(variant.chain)
        formed = in_form(self.store, product, form)
        has_layers = all(map(self.store.layers.has, _layers(formed)))
        documents = None
        if len(formed.variants) > 1 or form.has_own_documents or not has_layers:
            documents = documents_of(
                self.store, formed, form, self._blob_of, self._attest if form.is_attested else None
            )
        images = []
        for number, variant in enumerate(formed.variants):
            manifest = documents.manifests[number] if documents is not None else None
            if has_layers:
                images.append(self.store.images.add(variant.config, manifest=_bare(manifest)))
            else:
                images.append(Image(variant.id, variant.config, _bare(manifest)))
        own = platforms.host()
        fitting = (image for image in images if platforms.fits(image.config.platform, own))
        image = next(fitting, images[0])
        step.message(f"writing image {image.id}", done=True)
        return _Made(formed, image, documents, has_layers)

    def _attest(self, variant: Variant, request: BuildRequest | None = None) -> list[Statement]:
        """Return what is attested of an image. request: asks for it, by default the build's."""
        request = request or self.request
        statements = []
        if sbom.is_wanted(request):
            statements += self._lists_of(variant)
        if provenance.is_wanted(request):
            facts, platform = self._facts(), str(variant.platform)
            statements.append(provenance.provenance_of(request, facts, platform))
        return statements

    def _attest_beside(self, variant: Variant) -> list[Statement]:
        """Return what is attested of an image where there is no index that could hold it."""
        request = self.request
        if request.sbom is not None and request.sbom.is_on("inline-only"):
            request = replace(request, sbom=None)
        if request.provenance is not None and request.provenance.is_on("inline-only"):
            request = replace(request, provenance=None)
        return self._attest(variant, request)

    def _lists_of(self, variant: Variant) -> list[Statement]:
        """Return the lists of an image's packages."""
        chain = variant.chain if variant.scan is None else variant.scan
        self.site.absent.need(chain)
        root_fd = open_overlay(self.store.snapshots.view(chain))
        try:
            if variant.scan is not None:
                return sbom.scanned(root_fd)
            packages = packages_of(root_fd)
        finally:
            os.close(root_fd)
        return [sbom.sbom_of(packages, variant.id, variant.config.created)]

    def _blob_of(self, diff_id: DiffID, compression: Compression) -> BlobRef:
        """Return a layer's blob, made if need be; that of an absent one as it lies elsewhere."""
        if not self.store.layers.has(diff_id) and not compression.force:
            for origin in self.site.absent.origins(diff_id):
                return origin.blob
        self.site.absent.need([diff_id])
        return layer_blob(self.store, diff_id, compression)

    # -- registries

    def _push(
        self, made: _Made, references: Sequence[Reference], output: Output, step: Step
    ) -> Descriptor | None:
        """Push under all references; return what they name."""
        # requests takes 100 ms to import.
        from builder.export.registry import Parcel, push_image

        parcel = Parcel(self.site, self.request, output, self._layers_of(made))
        target = None
        for reference in references:
            target = push_image(parcel, reference, made.image, made.target, step)
        return target

    def _layers_of(self, made: _Made) -> dict[Digest, DiffID]:
        """Return which layer each blob of a product is, of those that may not be here."""
        if made.documents is None:
            return {}
        absent = self.site.absent
        return {
            origin.blob.digest: diff_id
            for variant in made.product.variants
            for diff_id in variant.chain
            for origin in absent.origins(diff_id)
        }

    # -- archives

    def _archive(
        self, made: Sequence[tuple[_Made, Sequence[Reference]]], output: Output, step: Step
    ) -> list[Descriptor | None]:
        """Write one archive, or folder, with all the products; return what their names lead to."""
        # The archive formats take 40 ms to import.
        from builder.export.archive import write_images
        from store.layout import Exported

        images: list[Exported] = []
        compression = form_of(self.request, output).compression
        for one, references in made:
            if one.documents is None:
                descriptor, manifest = manifest_of(self.store, one.image, compression=compression)
                images.append(
                    Exported(one.image, descriptor, manifest, tuple(references), descriptor)
                )
                continue
            self._bring_blobs(one)
            root = one.documents.root
            manifest = Manifest.from_json(self.store.content.get(one.documents.manifests[0].digest))
            first = one.documents.manifests[0]
            more = (root, *one.documents.blobs)
            images.append(Exported(one.image, first, manifest, tuple(references), root, more))
        write_images(self.store, images, output, step)
        return [image.root for image in images]

    def _bring_blobs(self, made: _Made) -> None:
        """Let all blobs of a product be in the content store. Raises ExportError."""
        assert made.documents is not None, "asked only for those that have some"
        layers = self._layers_of(made)
        for blob in made.documents.blobs:
            if self.store.content.has(blob.digest):
                continue
            ref = BlobRef(blob.digest, blob.size_bytes, blob.media_type)
            if blob.digest not in layers or not self.site.absent.bring_blob(
                ref, layers[blob.digest]
            ):
                raise LayersLost([layers.get(blob.digest, "")], f"blob {blob.digest} cannot be had")

    # -- what became of it

    def _delivered(
        self, made: _Made, references: Sequence[Reference], target: Descriptor | None
    ) -> Delivered:
        image_id = made.image.id
        target = target or made.image.manifest
        metadata: dict[str, object] = {
            "buildx.build.ref": self.site.build_id,
            "containerimage.config.digest": image_id,
            "containerimage.digest": target.digest if target is not None else image_id,
        }
        if target is not None:
            metadata["containerimage.descriptor"] = target.to_fields()
        if references:
            metadata["image.name"] = ",".join(map(str, references))
        return Delivered(image_id, metadata)


def _layers(product: Product) -> set[DiffID]:
    return {diff_id for variant in product.variants for diff_id in variant.chain}


def _bare(manifest: Descriptor | None) -> Descriptor | None:
    """Return a descriptor without what an index says about it."""
    return manifest and replace(manifest, platform=None, annotations=None)
