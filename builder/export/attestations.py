"""Attestations beside an image: in-toto statements in a manifest of their own in the image's index.

Source: BuildKit docs/attestations/attestation-storage.md.
"""

from collections.abc import Iterable, Sequence

from store import mediatypes
from store.document import encode
from store.oci import Descriptor, Manifest, Platform
from store.root import Store
from values.classes import dataclass, replace

STATEMENT = "application/vnd.in-toto+json"
_REFERENCE_TYPE = "vnd.docker.reference.type"
_REFERENCE_DIGEST = "vnd.docker.reference.digest"
_PREDICATE_TYPE = "in-toto.io/predicate-type"
_UNKNOWN = Platform("unknown", "unknown")


@dataclass(frozen=True, slots=True)
class Statement:
    """What is attested: the predicate's type, and the predicate as JSON values.

    file: what it is called where it is a file.
    """

    predicate_type: str
    predicate: object
    file: str

    def about(self, subjects: Iterable[tuple[str, str]]) -> dict[str, object]:
        """Return the in-toto statement about what has these names and sha256 digits."""
        return {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": self.predicate_type,
            "subject": [{"name": name, "digest": {"sha256": digits}} for name, digits in subjects],
            "predicate": self.predicate,
        }


def attestation_manifest(
    store: Store, about: Descriptor, names: Sequence[str], statements: Sequence[Statement]
) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Put the attestations of the manifest `about` into the store.

    names: package URLs of the image. Returns what the index says of their manifest, and the blobs
    that the manifest names.
    """
    layers = []
    for statement in statements:
        digits = about.digest.removeprefix("sha256:")
        data = encode(statement.about((name, digits) for name in names))
        layer = Descriptor(STATEMENT, store.content.put(data), len(data))
        layers.append(replace(layer, annotations={_PREDICATE_TYPE: statement.predicate_type}))
    # An image config that no machine takes for one of its own.
    config = encode(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
    )
    made = Descriptor(mediatypes.OCI_CONFIG, store.content.put(config), len(config))
    data = Manifest(made, tuple(layers)).to_json()
    entry = Descriptor(
        mediatypes.OCI_MANIFEST,
        store.content.put(data),
        len(data),
        {_REFERENCE_DIGEST: about.digest, _REFERENCE_TYPE: "attestation-manifest"},
        _UNKNOWN,
    )
    return entry, (made, *layers)
