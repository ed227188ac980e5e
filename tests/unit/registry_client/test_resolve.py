"""Which entry of an index runs on which platform."""

import pytest

from registry_client.resolve import choose, fallbacks
from store.digest import Digest
from store.oci import Descriptor, Index, Platform

KIND = "application/vnd.oci.image.manifest.v1+json"


def entry(platform: str | None, **more: object) -> Descriptor:
    parts = platform.split("/") if platform else None
    digest = Digest(f"sha256:{abs(hash(platform)):064x}")
    return Descriptor(KIND, digest, 1, platform=Platform(*parts) if parts else None, **more)


def chosen(wanted: str, *there: str | None) -> str | None:
    found = choose(Index(tuple(map(entry, there))), Platform(*wanted.split("/")))
    return found and str(found.platform)


@pytest.mark.parametrize(
    ("wanted", "there", "expected"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["windows/amd64", "linux/386"], None),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/amd64/v1", ["linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/amd64/v1"], "linux/amd64/v1"),
        ("linux/arm64", ["linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/arm64"], "linux/arm64"),
        ("linux/arm64/v9", ["linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8.2", ["linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], "linux/arm/v6"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v7"),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm/v8", ["linux/arm/v7"], "linux/arm/v7"),
        ("linux/s390x", ["linux/s390x"], "linux/s390x"),
        ("linux/riscv64", [], None),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], "linux/amd64"),
    ],
)
def test_choose(wanted: str, there: list[str], expected: str | None) -> None:
    assert chosen(wanted, *there) == expected


def test_the_first_of_equals() -> None:
    first, second = entry("linux/amd64"), entry("linux/amd64")
    object.__setattr__(second, "digest", Digest(f"sha256:{'1' * 64}"))
    found = choose(Index((first, second)), Platform("linux", "amd64"))
    assert found is not None
    assert found.digest == first.digest


def test_entries_without_a_platform() -> None:
    assert choose(Index((entry(None),)), Platform("linux", "amd64")) == entry(None)
    both = Index((entry(None), entry("linux/arm64")))
    assert choose(both, Platform("linux", "amd64")) is None


def test_attestations_are_no_images() -> None:
    unknown = entry("unknown/unknown")
    noted = entry("linux/amd64", annotations={"vnd.docker.reference.type": "attestation-manifest"})
    assert choose(Index((unknown, noted)), Platform("linux", "amd64")) is None


def test_fallbacks() -> None:
    assert fallbacks(Platform("linux", "arm")) == ("v7", "v6", "v5")
    assert fallbacks(Platform("linux", "amd64", "v4")) == ("v4", "v3", "v2", "")
    assert fallbacks(Platform("linux", "ppc64le")) == ("",)
