"""Images into the store and out of it: import, load, save."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from pybuild.engine.changes import config_of
from pybuild.engine.info import host_platform
from pybuild.errors import PybuildError, UsageError

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
    from store import archive, platforms
    from store.reference import Reference

    name = Reference.parse_new(reference) if reference else None
    platform = platform or host_platform()
    try:
        wanted = platforms.parse(platform)
    except ValueError as error:
        raise UsageError(f"--platform: {error}") from error
    return archive.import_rootfs(
        store,
        source,
        reference=name,
        changes=config_of(store, changes, platform),
        message=message,
        platform=wanted,
    )


@contextlib.contextmanager
def downloaded(store: Store, url: str) -> Iterator[BinaryIO]:
    """Give what `url` holds as a file without a name, on the store's disk.

    Raises RegistryError.
    """
    import tempfile

    from registry_client.download import download

    with tempfile.TemporaryFile(dir=os.path.join(store.root, "tmp")) as file:
        download(url, file)
        file.seek(0)
        yield file


def load(
    store: Store, source: BinaryIO | str, platform: str | None = None
) -> list[tuple[Image, Reference | None]]:
    """Load the images of an archive, or of an OCI layout's folder; return each with its name.

    platform: load only the images for it. Raises BadArchive, and leaves the store as it was then.
    """
    from pybuild.engine.registries import platform_of
    from store import archive

    wanted = platform_of(platform)
    return archive.load(store, source, platform=wanted, alone=wanted is not None)


def save(store: Store, names: Sequence[str], target: BinaryIO, platform: str | None = None) -> None:
    """Write the images called `names` to `target` as docker does.

    platform: of each only the image for it; by default an index goes whole, with all its images
    that are here. Raises NotFound and Ambiguous before anything is written.
    """
    from pybuild.engine.images import find
    from store import archive

    with store.lease():
        images = []
        for name in names:
            image_id, reference = store.images.resolve(name)
            references = (reference,) if reference else ()
            if platform is not None:
                image = find(store, name, platform)
                images.append(archive.Selection(image, references))
            else:
                record = store.images.reference(reference) if reference else None
                image = store.images.get(image_id)
                root = record.target if record else None
                images.append(archive.Selection(image, references, root))
        archive.export_docker(store, images, target)


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Give the file `path` to be written; it appears whole or not at all.

    A pipe or a device is written as it is. Raises PybuildError where there can be no such file.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise PybuildError(f'invalid output path: directory "{folder}" does not exist')
    if os.path.isdir(path):
        raise PybuildError(f'invalid output path: "{path}" is a directory')
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as target:
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
