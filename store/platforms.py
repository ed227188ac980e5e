"""The platform that this machine is, in the words of image indexes (Go's GOOS and GOARCH)."""

import os

from store.oci import Platform

# uname's machine -> (architecture, variant). Source: containerd/platforms database.go.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "ppc64le": ("ppc64le", ""),
    "loongarch64": ("loong64", ""),
}
_ARM64_DEFAULT = ("arm64", "v8")


def host() -> Platform:
    """Return this machine's platform."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def fits(actual: Platform, wanted: Platform) -> bool:
    """Tell whether an image for `actual` is one for `wanted`.

    A wanted platform without a variant takes any; arm64 and arm64/v8 are the same.
    """
    if (actual.os, actual.architecture) != (wanted.os, wanted.architecture):
        return False
    return not wanted.variant or _variant(actual) == _variant(wanted)


def _variant(platform: Platform) -> str:
    plain = (platform.architecture, platform.variant) == _ARM64_DEFAULT
    return "" if plain else platform.variant
