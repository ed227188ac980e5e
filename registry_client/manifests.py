"""Manifests and indexes at a registry: fetched as the bytes they are, put, asked for.

Owns what is accepted as one. Never writes a document anew: its bytes are its name.
"""

import contextlib
import json
from collections.abc import Mapping
from http import HTTPStatus

from registry_client.answers import limited_body, printable
from registry_client.authority import Scopes
from registry_client.client import Call, Client
from registry_client.errors import BadManifest, DigestMismatch, NotFound
from registry_client.transport import release
from store import mediatypes
from store.digest import Digest, digest_of, is_digest
from store.errors import Corrupt
from store.oci import Descriptor, Index, Manifest
from values.classes import dataclass

_LIMIT_BYTES = 8 << 20  # registries take 4 MiB
_ACCEPTED = (
    mediatypes.OCI_INDEX,
    mediatypes.OCI_MANIFEST,
    mediatypes.DOCKER_INDEX,
    mediatypes.DOCKER_MANIFEST,
)
_SCHEMA1 = (mediatypes.DOCKER_SCHEMA1, mediatypes.DOCKER_SCHEMA1_SIGNED)
_GENERIC = ("", "application/json", "text/plain", "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index: the bytes as they are, and the descriptor that they make."""

    descriptor: Descriptor
    data: bytes

    @property
    def is_index(self) -> bool:
        """Tell whether it is an index."""
        return self.descriptor.media_type in mediatypes.INDEXES

    @classmethod
    def of(cls, data: bytes, media_type: str) -> "Document":
        """Return the document that `data` is."""
        return cls(Descriptor(media_type, digest_of(data), len(data)), data)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at a registry, and the right that a transfer has there."""

    client: Client
    name: str
    scopes: Scopes

    def manifest_path(self, name: str) -> str:
        """Return the path of the manifest with a tag or digest."""
        return f"/v2/{self.name}/manifests/{name}"


def fetch(repository: Repository, name: str, what: str) -> Document:
    """Return the manifest or index called `name`, a tag or a digest.

    Raises NotFound, BadManifest, DigestMismatch, ….
    """
    call = Call(
        "GET",
        repository.manifest_path(name),
        what,
        repository.scopes,
        {"Accept": ", ".join(_ACCEPTED)},
    )

    def attempt() -> tuple[bytes, Mapping[str, str]]:
        response = repository.client.ask_once(call)
        with contextlib.closing(response):
            return limited_body(response, what, _LIMIT_BYTES), response.headers

    data, headers = repository.client.retried(attempt)
    announced = headers.get("Docker-Content-Digest", "")
    expected = name if is_digest(name) else announced
    actual = digest_of(data)
    if is_digest(expected) and actual != expected:
        raise DigestMismatch(
            f"{what}: the manifest has digest {actual}, expected {expected}", expected, actual
        )
    return Document.of(data, _media_type(data, headers.get("Content-Type", ""), what))


def find(repository: Repository, name: str, what: str) -> Descriptor | None:
    """Return the descriptor of the manifest called `name`, None when there is none."""
    headers = {"Accept": ", ".join(_ACCEPTED)}
    call = Call("HEAD", repository.manifest_path(name), what, repository.scopes, headers)
    try:
        response = repository.client.ask(call)
    except NotFound:
        return None
    release(response)
    digest = response.headers.get("Docker-Content-Digest", "")
    if not is_digest(digest):
        return None
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
    size = response.headers.get("Content-Length", "0")
    return Descriptor(media_type, Digest(digest), int(size) if size.isdecimal() else 0)


def put(repository: Repository, name: str, document: Document, what: str) -> None:
    """Store a document under a tag or its digest. Raises BadStatus, DigestMismatch, …."""
    call = Call(
        "PUT",
        repository.manifest_path(name),
        what,
        repository.scopes,
        {"Content-Type": document.descriptor.media_type},
        document.data,
        (HTTPStatus.CREATED, HTTPStatus.OK, HTTPStatus.ACCEPTED),
    )
    response = repository.client.ask(call)
    release(response)
    stored = response.headers.get("Docker-Content-Digest", "")
    digest = document.descriptor.digest
    if is_digest(stored) and stored != digest:
        raise DigestMismatch(
            f"{what}: the registry stored {stored} instead of {digest}", digest, stored
        )


def read_manifest(document: Document, what: str) -> Manifest:
    """Return an image's manifest. Raises BadManifest for what is no image."""
    try:
        manifest = Manifest.from_json(document.data)
    except Corrupt as error:
        raise BadManifest(f"{what}: {error}") from error
    config = manifest.config.media_type
    if config not in mediatypes.CONFIGS:
        kind = printable(manifest.artifact_type or config or "nothing known")
        raise BadManifest(f"{what}: it is no container image: its config is {kind}")
    for blob in (manifest.config, *manifest.layers):
        if not is_digest(blob.digest):
            raise BadManifest(f"{what}: digest {printable(blob.digest)} is not supported")
    for layer in manifest.layers:
        if not mediatypes.is_layer(layer.media_type) or "encrypted" in layer.media_type:
            kind = printable(layer.media_type)
            raise BadManifest(f"{what}: layers of type {kind!r} are not supported")
    return manifest


def read_index(document: Document, what: str) -> Index:
    """Return an index. Raises BadManifest."""
    try:
        return Index.from_json(document.data)
    except Corrupt as error:
        raise BadManifest(f"{what}: {error}") from error


def _media_type(data: bytes, content_type: str, what: str) -> str:
    """Return what a document is by its header and by its own words, which must agree."""
    header = content_type.partition(";")[0].strip().lower()
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"{what}: the manifest is not valid JSON") from error
    if not isinstance(fields, dict):
        raise BadManifest(f"{what}: the manifest is not a JSON object")
    if header in _SCHEMA1 or fields.get("schemaVersion") == 1:
        raise BadManifest(
            f"{what}: manifests of schema 1 are not supported",
            hint="the image is from before 2017: push it again with a current tool",
        )
    own = fields.get("mediaType")
    if own and header not in _GENERIC and own != header:
        raise BadManifest(
            f"{what}: the registry says {printable(header)}, the manifest {printable(str(own))}"
        )
    media_type = str(own) if own else header
    if media_type in _GENERIC:
        media_type = mediatypes.OCI_INDEX if "manifests" in fields else mediatypes.OCI_MANIFEST
    if media_type not in _ACCEPTED:
        raise BadManifest(f"{what}: manifests of type {printable(media_type)} are not supported")
    wrong = "layers" if media_type in mediatypes.INDEXES else "manifests"
    if wrong in fields:
        raise BadManifest(f"{what}: the manifest is both a manifest and an index")
    return media_type
