"""Images as they lie at a registry: documents, platforms, and what is attested of them.

Only documents are fetched; nothing comes into the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.engine.registries import RegistryTerms, access_of
from pybuild.errors import PybuildError
from values.classes import dataclass

if TYPE_CHECKING:
    from registry_client.manifests import Document, Repository
    from store.oci import Descriptor
    from store.reference import Reference

_REFERENCE_TYPE = "vnd.docker.reference.type"
_REFERENCE_DIGEST = "vnd.docker.reference.digest"
_PREDICATE_TYPE = "in-toto.io/predicate-type"
_SPDX = "https://spdx.dev/Document"
_SLSA = "https://slsa.dev/provenance/"


@dataclass(frozen=True, slots=True)
class Attested:
    """What is attested of an image: its manifest, the type of each predicate and its blob."""

    about: str
    statements: tuple[tuple[str, Descriptor], ...]


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """What a name means at its registry.

    entries: of an index, those of attestations too; of a single manifest none.
    """

    reference: Reference
    root: Document
    entries: tuple[Descriptor, ...]
    attested: tuple[Attested, ...]

    def kinds(self, entry: Descriptor) -> tuple[str, ...]:
        """Return the types of the predicates that are attested of an entry."""
        of_it = (each for each in self.attested if each.about == entry.digest)
        return tuple(kind for each in of_it for kind, _ in each.statements)


def is_attestation(entry: Descriptor) -> bool:
    """Tell whether an entry of an index is what is attested of another one."""
    return (entry.annotations or {}).get(_REFERENCE_TYPE) == "attestation-manifest"


def inspect(name: str, terms: RegistryTerms | None = None) -> RemoteImage:
    """Return what a name means at its registry. Raises RegistryError, StoreError."""
    from store.reference import Reference

    reference = Reference.parse(name)
    with _asking(reference, terms) as (repository, what):
        return _look(repository, reference, what)


def details(name: str, terms: RegistryTerms | None = None) -> dict[str, object]:
    """Return everything about a name as JSON values, by buildx's names.

    Image, SBOM and Provenance are those of the one image, or of each by its platform.
    Raises RegistryError, StoreError.
    """
    from registry_client.manifests import read_manifest
    from store.reference import Reference

    reference = Reference.parse(name)
    with _asking(reference, terms) as (repository, what):
        image = _look(repository, reference, what)
        configs: dict[str, object] = {}
        lists: dict[str, object] = {}
        provenance: dict[str, object] = {}
        for platform, digest in _images(image):
            document = image.root if not image.entries else _fetch(repository, digest, what)
            config = read_manifest(document, what).config
            configs[platform] = json.loads(_blob(repository, config, what))
            statements = _statements(repository, image, digest, what)
            spdx = [each for kind, each in statements if kind == _SPDX]
            slsa = [each for kind, each in statements if kind.startswith(_SLSA)]
            if spdx:
                more = {"AdditionalSPDXs": spdx[1:]} if spdx[1:] else {}
                lists[platform] = {"SPDX": spdx[0], **more}
            if slsa:
                provenance[platform] = {"SLSA": slsa[0]}
    manifest = image.root.descriptor.to_fields()
    if image.entries:
        manifest["manifests"] = [entry.to_fields() for entry in image.entries]
    return {
        "Name": str(reference),
        "Manifest": manifest,
        "Image": _one_or_all(configs),
        "SBOM": _one_or_all(lists),
        "Provenance": _one_or_all(provenance),
    }


def _one_or_all(found: dict[str, object]) -> object:
    return next(iter(found.values())) if len(found) == 1 else found


def _images(image: RemoteImage) -> Iterator[tuple[str, str]]:
    """Yield the platform of each image and the digest of its manifest."""
    for entry in image.entries:
        if not is_attestation(entry):
            yield str(entry.platform or entry.digest), entry.digest
    if not image.entries:
        yield "", image.root.descriptor.digest


@contextmanager
def _asking(reference: Reference, terms: RegistryTerms | None) -> Iterator[tuple[Repository, str]]:
    from registry_client.client import Client
    from registry_client.manifests import Repository
    from registry_client.resolve import pulling

    name = reference.repository
    with Client(reference.registry, access_of(terms), name) as client:
        yield Repository(client, name, pulling(name)), f"inspect {reference.familiar()}"


def _look(repository: Repository, reference: Reference, what: str) -> RemoteImage:
    from registry_client.manifests import read_index

    root = _fetch(repository, reference.digest or reference.tag or "latest", what)
    if not root.is_index:
        return RemoteImage(reference, root, (), ())
    entries = read_index(root, what).manifests
    attested = tuple(_attested(repository, e, what) for e in entries if is_attestation(e))
    return RemoteImage(reference, root, entries, attested)


def _fetch(repository: Repository, name: str, what: str) -> Document:
    from registry_client.manifests import fetch

    return fetch(repository, name, what)


def _attested(repository: Repository, entry: Descriptor, what: str) -> Attested:
    from store.errors import Corrupt
    from store.oci import Manifest

    try:
        manifest = Manifest.from_json(_fetch(repository, entry.digest, what).data)
    except Corrupt as error:
        raise PybuildError(f"{what}: {error}") from error
    layers = ((layer.annotations or {}, layer) for layer in manifest.layers)
    about = (entry.annotations or {}).get(_REFERENCE_DIGEST, "")
    return Attested(
        about, tuple((named.get(_PREDICATE_TYPE, ""), layer) for named, layer in layers)
    )


def _statements(
    repository: Repository, image: RemoteImage, digest: str, what: str
) -> list[tuple[str, object]]:
    """Return what is attested of a manifest: types and predicates."""
    found: list[tuple[str, object]] = []
    for each in image.attested:
        for kind, layer in each.statements if each.about == digest else ():
            try:
                statement = json.loads(_blob(repository, layer, what))
            except ValueError as error:
                raise PybuildError(f"{what}: {layer.digest} is not valid JSON") from error
            found.append((kind, statement.get("predicate")))
    return found


def _blob(repository: Repository, descriptor: Descriptor, what: str) -> bytes:
    from registry_client.blobs import Blob, fetch

    return fetch(Blob(repository, descriptor, what))
