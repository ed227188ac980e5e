"""Empty mount points, a lowest lower directory, so that no mount target lands in a layer."""

import contextlib
import os

from store.errors import disk_errors
from store.folder import Folder, durable_rename

# The set's own version: a change of the set makes a new folder, running containers keep the old.
_FOLDER = "stubs/1"
EMPTY = f"{_FOLDER}/empty"
STUBS = f"{_FOLDER}/mounts"

_DIRECTORIES = ("proc", "dev", "sys", "etc")
_FILES = ("etc/hosts", "etc/resolv.conf", "etc/hostname")


def ensure(folder: Folder) -> None:
    """Make the folders STUBS (the mount points) and EMPTY (nothing), paths below the root."""
    path = folder.path(_FOLDER)
    if os.path.exists(path):
        return
    with disk_errors("make stubs", path):
        scratch = folder.scratch_directory()
        try:
            _make(scratch.path)
            with contextlib.suppress(FileExistsError):
                durable_rename(scratch.path, path, scratch.fd)
        except OSError:
            if not os.path.exists(path):
                raise
        finally:
            folder.remove_tree(scratch.path)
            os.close(scratch.fd)


def _make(top: str) -> None:
    """Make the tree; the same modes and times everywhere, since layers may copy them up."""
    os.mkdir(f"{top}/empty")
    os.mkdir(f"{top}/mounts")
    made = [f"{top}/empty"]
    for name in _DIRECTORIES:
        os.mkdir(f"{top}/mounts/{name}")
    for name in _FILES:
        with open(f"{top}/mounts/{name}", "xb"):
            pass
        os.chmod(f"{top}/mounts/{name}", 0o644)
        os.utime(f"{top}/mounts/{name}", ns=(0, 0))
    made += [f"{top}/mounts/{name}" for name in _DIRECTORIES]
    for path in (*made, f"{top}/mounts"):
        os.chmod(path, 0o755)
        os.utime(path, ns=(0, 0))
