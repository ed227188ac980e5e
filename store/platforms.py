"""The platform that this machine is, in the words of image indexes (Go's GOOS and GOARCH)."""

import os
import re

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


# Source: containerd/platforms database.go, normalizeArch.
_ARCHITECTURES = {
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_KNOWN_ARCHITECTURES = re.compile(
    "386|amd64|arm|arm64|loong64|mips|mips64|mips64le|mipsle|ppc64|ppc64le|riscv64|s390x|wasm"
)
_KNOWN_SYSTEMS = re.compile(
    "aix|android|darwin|dragonfly|freebsd|illumos|ios|js|linux|macos|netbsd|openbsd|plan9|solaris"
    "|wasip1|windows"
)
_PART = re.compile(r"[A-Za-z0-9_.-]+(\([A-Za-z0-9_.-]*\))?")


def parse(text: str) -> Platform:
    """Return the platform that `os/arch[/variant]`, an architecture or a system alone means.

    Other spellings of the same are made equal: linux/x86_64 is linux/amd64. Raises ValueError.
    """
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(map(_PART.fullmatch, parts)):
        raise ValueError(f'"{text}" is an invalid platform: write os/arch[/variant]')
    parts = [part.lower() for part in parts]
    own = host()
    if len(parts) == 1:
        if _KNOWN_SYSTEMS.fullmatch(parts[0]):
            return Platform(_system(parts[0]), own.architecture, own.variant)
        architecture, variant = _normal(parts[0], "")
        if _KNOWN_ARCHITECTURES.fullmatch(architecture):
            return Platform("linux", architecture, variant)
        raise ValueError(f'"{text}" is an invalid platform: neither a system nor an architecture')
    system = _system(re.sub(r"\(.*\)", "", parts[0]))
    return Platform(system, *_normal(parts[1], parts[2] if len(parts) == 3 else ""))


def _system(name: str) -> str:
    return "darwin" if name == "macos" else name


def _normal(architecture: str, variant: str) -> tuple[str, str]:
    """Return an architecture and its variant in the one spelling that is compared."""
    if architecture in _ARCHITECTURES:
        architecture, implied = _ARCHITECTURES[architecture]
        variant = variant or implied
    if variant.isdigit():
        variant = f"v{variant}"
    if architecture == "arm" and not variant:
        variant = "v7"
    if (architecture, variant) in (_ARM64_DEFAULT, ("amd64", "v1")):
        variant = ""
    return architecture, variant
