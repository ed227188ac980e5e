"""systemd's way of naming cgroups: `slice:prefix:name`. Only what is wrong is said of it."""

import os

from runtime.errors import InvalidSpec


def refuse(path: str) -> None:
    """Raise InvalidSpec: --systemd-cgroup is not supported; first of all for a malformed path."""
    parts = path.split(":")
    if len(parts) != 3:
        raise InvalidSpec(
            f'linux.cgroupsPath: {path!r} is not "slice:prefix:name", which --systemd-cgroup needs'
        )
    folder = parts[0]
    if folder and (not folder.endswith(".slice") or "/" in folder or "--" in folder):
        raise InvalidSpec(f"linux.cgroupsPath: {folder!r} is no name of a slice")
    if not os.path.isdir("/run/systemd/system"):
        raise InvalidSpec("--systemd-cgroup: no systemd runs on this host")
    raise InvalidSpec(
        "--systemd-cgroup: not supported", hint="use the cgroupfs manager of docker or podman"
    )
