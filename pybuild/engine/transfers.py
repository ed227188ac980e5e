"""Images into the store and out of it: import, load, save."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from pybuild.engine.changes import config_of
from pybuild.engine.info import host_platform
from pybuild.errors import UsageError

if TYPE_CHECKING:
    from store.images import Image
    from store.reference import Reference
    from store.root import Store


def import_rootfs(
    store: Store,
    source: BinaryIO,
    *,
    reference: str | None,
    changes: tuple[str, ...],
    message: str,
    platform: str | None,
) -> Image:
    """Make an image of a file system tarball and return it.

    changes: Dockerfile instructions for its config. Raises BadArchive, UsageError, ….
    """
    from store import archive
    from store.oci import Platform
    from store.reference import Reference

    name = Reference.parse(reference) if reference else None
    platform = platform or host_platform()
    os_name, architecture, variant, *rest = (*platform.split("/"), "", "")
    if not (os_name and architecture) or len(rest) > 1:
        raise UsageError(f'platform "{platform}" is not os/architecture[/variant]')
    return archive.import_rootfs(
        store,
        source,
        reference=name,
        changes=config_of(store, changes, platform),
        message=message,
        platform=Platform(os_name, architecture, variant),
    )


def load(store: Store, source: BinaryIO | str) -> list[tuple[Image, Reference | None]]:
    """Load the images of an archive, or of an OCI layout's folder; return each with its name.

    Raises BadArchive, and leaves the store as it was then.
    """
    from store import archive

    return archive.load(store, source)


def save(store: Store, names: Sequence[str], target: BinaryIO) -> None:
    """Write the images called `names` to `target` as docker does.

    Raises NotFound and Ambiguous before anything is written.
    """
    from store import archive

    with store.lease():
        images = []
        for name in names:
            image_id, reference = store.images.resolve(name)
            images.append((store.images.get(image_id), (reference,) if reference else ()))
        archive.export_docker(store, images, target)


def save_file(store: Store, names: Sequence[str], path: str) -> None:
    """Write the images called `names` to the file `path`, which appears whole or not at all."""
    with whole_file(path) as target:
        save(store, names, target)


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Open `path` for writing; a file appears there at the end of the block, after no exception."""
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as target:  # a pipe or a device
            yield target
        return
    temporary = f"{path}.{os.getpid()}.part"
    try:
        with open(temporary, "xb") as target:
            yield target
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
