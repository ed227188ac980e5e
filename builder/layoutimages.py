"""Images in OCI layouts, as named contexts: read and unpacked, but given no name in the store.

Source: image-spec image-layout.md.
"""

from builder.errors import ContextError
from builder.namedcontexts import NamedContext
from store import archivesource, platforms
from store.archivesource import Archive
from store.compression import decompressed
from store.digest import Digest, digest_of, hex_of, is_digest
from store.errors import BadArchive, Corrupt
from store.images import Image
from store.layout import INDEX_FILE, LAYOUT_FILE, REFERENCE_NAME
from store.mediatypes import INDEXES
from store.oci import Descriptor, ImageConfig, Index, Manifest, Platform
from store.root import Store
from store.unpacklimit import bounded

_DEEPEST_INDEX = 4


def layout_image(
    store: Store, context: NamedContext, platform: Platform, *, with_layers: bool = True
) -> Image:
    """Return the image that a context names in a layout.

    with_layers: its layers are then in the store, kept by whoever holds a lease. Raises
    ContextError.
    """
    try:
        with archivesource.opened(context.where, store.folder) as archive:
            archive.file(LAYOUT_FILE, "an OCI layout")
            manifest = _manifest(archive, context, platform)
            data = _blob(archive, manifest.config)
            config = ImageConfig.from_json(data)
            if with_layers:
                _unpack(store, archive, manifest, config)
    except (BadArchive, Corrupt) as error:
        raise ContextError(
            f"build context {context.name}: {context.where}: {error}", hint=error.hint
        ) from error
    return Image(digest_of(data), config)


def _manifest(archive: Archive, context: NamedContext, platform: Platform) -> Manifest:
    index = Index.from_json(archive.read(INDEX_FILE, "an OCI layout"))
    descriptor = _chosen(index, context)
    for _ in range(_DEEPEST_INDEX):
        data = _blob(archive, descriptor)
        if descriptor.media_type not in INDEXES:
            return Manifest.from_json(data)
        below = Index.from_json(data).manifests
        fitting = [
            item for item in below if item.platform and platforms.fits(item.platform, platform)
        ]
        if not fitting:
            raise BadArchive(f"{descriptor.digest} has no image for {platform}")
        descriptor = fitting[0]
    raise BadArchive("its indexes are nested too deeply")


def _chosen(index: Index, context: NamedContext) -> Descriptor:
    """Return the entry that a tag or a digest means; without either `latest`, or the only one."""
    if context.digest:
        found = [item for item in index.manifests if item.digest == context.digest]
        return found[0] if found else Descriptor("", Digest(context.digest), 0)
    tag = context.tag or "latest"
    found = [i for i in index.manifests if (i.annotations or {}).get(REFERENCE_NAME) == tag]
    if not found and not context.tag and len(index.manifests) == 1:
        found = list(index.manifests)
    if not found:
        tags = sorted({(i.annotations or {}).get(REFERENCE_NAME, "") for i in index.manifests})
        shown = ", ".join(filter(None, tags))
        raise BadArchive(
            f"it has no tag {tag}", hint=f"tags: {shown}" if shown else "name a digest: …@sha256:…"
        )
    return found[0]


def _name(descriptor: Descriptor) -> str:
    """Return where a blob is in its layout. Raises BadArchive for a digest that we do not know."""
    if not is_digest(descriptor.digest):
        raise BadArchive(f"digest {descriptor.digest} is not supported")
    return f"blobs/sha256/{hex_of(descriptor.digest)}"


def _blob(archive: Archive, descriptor: Descriptor) -> bytes:
    data = archive.read(_name(descriptor), INDEX_FILE)
    if digest_of(data) != descriptor.digest:
        raise BadArchive(f"blob {descriptor.digest} is damaged")
    return data


def _unpack(store: Store, archive: Archive, manifest: Manifest, config: ImageConfig) -> None:
    if len(manifest.layers) != len(config.diff_ids):
        raise BadArchive("its manifest and its config have different numbers of layers")
    for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.diff_ids, strict=True)):
        if store.layers.has(diff_id):
            continue
        name = _name(layer)
        file = archive.file(name, "its manifest")
        tar = bounded(decompressed(file.chunks(), name=name), file.size_bytes, store.root)
        store.layers.unpack(tar, expected=diff_id, below=config.diff_ids[:number])
