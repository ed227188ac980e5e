"""Can this machine run programs of another architecture: natively, or by binfmt_misc.

Source: Linux `Documentation/admin-guide/binfmt-misc.rst`; qemu's `qemu-binfmt-conf.sh` for names.
"""

import os

from store.oci import Platform

_FOLDER = "/proc/sys/fs/binfmt_misc"
# What a processor runs besides its own.
_NATIVE = {"amd64": {"386"}, "arm64": {"arm"}}
_QEMU = {
    "386": "i386",
    "amd64": "x86_64",
    "arm64": "aarch64",
    "loong64": "loongarch64",
    "ppc64le": "ppc64le",
}


def emulator_missing(wanted: Platform, host: Platform, folder: str = _FOLDER) -> str | None:
    """Return why programs for `wanted` cannot run on `host`, None when they can."""
    if wanted.os != host.os:
        return f"this machine runs {host.os}"
    architecture = wanted.architecture
    if architecture == host.architecture or architecture in _NATIVE.get(host.architecture, ()):
        return None
    name = _QEMU.get(architecture, architecture)
    if not os.path.isdir(folder) or not os.path.exists(f"{folder}/register"):
        return f"binfmt_misc is not mounted at {folder}"
    found = _entry(f"{folder}/qemu-{name}")
    if "enabled" not in found:
        return f"no emulator for {architecture} is registered in {folder}"
    # Without F the interpreter is looked for inside the container, where it is not.
    flags = next((line.partition(":")[2] for line in found if line.startswith("flags:")), "")
    if "F" not in flags:
        return f"the emulator qemu-{name} is registered without the flag F (fix binary)"
    return None


def _entry(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.strip() for line in file]
    except OSError:
        return []
