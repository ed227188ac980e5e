"""From a reference to one image's manifest: the index, the platform, the manifest.

Source: image-spec image-index.md; containerd `platforms/compare.go` for what stands in for what.
"""

from registry_client import manifests
from registry_client.client import scope
from registry_client.errors import BadManifest, NoSuchPlatform
from registry_client.manifests import Document, Repository
from store import platforms
from store.oci import Descriptor, Index, Manifest, Platform
from store.reference import Reference
from values.classes import dataclass, replace

_DEEPEST = 3
_REFERENCE_TYPE = "vnd.docker.reference.type"  # attestations that stand among the platforms
_VARIANTS = {
    "amd64": ("", "v2", "v3", "v4"),
    "arm": ("v5", "v6", "v7", "v8"),
    "arm64": ("v8", "v9"),
}
_DEFAULT_VARIANT = {"amd64": "", "arm": "v7", "arm64": "v8"}


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference means at a registry now.

    documents: from what the reference names down to the platform's manifest, at least one.
    """

    reference: Reference
    documents: tuple[Document, ...]
    manifest: Manifest

    @property
    def target(self) -> Descriptor:
        """The descriptor of what the reference names."""
        return self.documents[0].descriptor

    @property
    def manifest_descriptor(self) -> Descriptor:
        """The descriptor of the platform's manifest."""
        return self.documents[-1].descriptor


def resolve(
    repository: Repository, reference: Reference, platform: Platform | None, what: str
) -> Resolved:
    """Ask the registry what `reference` is for a platform, by default this machine's.

    Raises NotFound, NoSuchPlatform, BadManifest, …. Nothing but documents is fetched.
    """
    wanted = platform or platforms.host()
    name = reference.digest or reference.tag or "latest"
    documents = [manifests.fetch(repository, name, what)]
    while documents[-1].is_index:
        if len(documents) > _DEEPEST:
            raise BadManifest(f"{what}: indexes inside indexes, more than {_DEEPEST} deep")
        chosen = choose(manifests.read_index(documents[-1], what), wanted)
        if chosen is None:
            raise _no_platform(documents[-1], wanted, what)
        documents.append(_child(repository, chosen, what))
    manifest = manifests.read_manifest(documents[-1], what)
    return Resolved(reference, tuple(documents), manifest)


def pulling(repository: str) -> tuple[str, ...]:
    """Return the scopes of reading a repository."""
    return (scope(repository, "pull"),)


def choose(index: Index, wanted: Platform) -> Descriptor | None:
    """Return the entry of an index that runs best on `wanted`, None when none does.

    The variant itself comes first, then the older ones that it stands above, newest first.
    """
    entries = [entry for entry in index.manifests if not _is_attestation(entry)]
    for variant in fallbacks(wanted):
        for entry in entries:
            if entry.platform is not None and _normal(entry.platform) == replace(
                _bare(wanted), variant=variant
            ):
                return entry
    unknown = [entry for entry in entries if entry.platform is None]
    return unknown[0] if len(entries) == 1 == len(unknown) else None


def fallbacks(wanted: Platform) -> tuple[str, ...]:
    """Return the variants that `wanted` runs, best first."""
    variant = wanted.variant or _DEFAULT_VARIANT.get(wanted.architecture, "")
    family = _VARIANTS.get(wanted.architecture, ())
    if wanted.architecture == "amd64" and variant == "v1":
        variant = ""
    if variant in family:
        return family[: family.index(variant) + 1][::-1]
    base = _DEFAULT_VARIANT.get(wanted.architecture)
    # arm64/v8.2 and the like run what their family's first does.
    return (variant,) if base is None or variant == base else (variant, base)


def _bare(platform: Platform) -> Platform:
    return Platform(platform.os, platform.architecture)


def _normal(platform: Platform) -> Platform:
    """Return a platform with its variant spelled out, without what only Windows has."""
    variant = platform.variant or _DEFAULT_VARIANT.get(platform.architecture, "")
    if platform.architecture == "amd64" and variant == "v1":
        variant = ""
    return replace(_bare(platform), variant=variant)


def _is_attestation(entry: Descriptor) -> bool:
    platform = entry.platform
    unknown = platform is not None and platform.architecture == platform.os == "unknown"
    return unknown or _REFERENCE_TYPE in (entry.annotations or {})


def _child(repository: Repository, entry: Descriptor, what: str) -> Document:
    document = manifests.fetch(repository, entry.digest, what)
    if document.descriptor.size_bytes != entry.size_bytes:
        raise BadManifest(
            f"{what}: manifest {entry.digest} has {document.descriptor.size_bytes} bytes, the "
            f"index says {entry.size_bytes}"
        )
    return document


def _no_platform(document: Document, wanted: Platform, what: str) -> NoSuchPlatform:
    index = manifests.read_index(document, what)
    there = sorted(
        {str(e.platform) for e in index.manifests if e.platform and not _is_attestation(e)}
    )
    return NoSuchPlatform(
        f"{what}: no image for platform {wanted}",
        hint=f"there is: {', '.join(there[:20])}" if there else None,
    )
