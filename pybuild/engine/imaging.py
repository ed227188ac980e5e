"""The engine's methods about images: look, name, remove, move in and out."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.engine.core import OpenStore, require_privilege
from pybuild.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from pybuild.engine.images import HistoryLine
    from pybuild.engine.registries import RegistryTerms, Watch
    from pybuild.engine.remoteimages import RemoteImage
    from pybuild.engine.removal import Pruned
    from registry_client.login import LoggedIn
    from registry_client.pull import Pulled
    from registry_client.push import Pushed
    from store.images import Image
    from store.reference import Reference


class Imaging(OpenStore):
    """Images in the store, in archives and in registries."""

    def images(
        self,
        pattern: str | None = None,
        *,
        filters: Sequence[str] = (),
        everything: bool = False,
    ) -> list[tuple[Image, tuple[Reference, ...]]]:
        """Return the images, newest first, each with those of its names that fit `pattern`.

        filters: `key=value` each, of pybuild.engine.images.IMAGE_FILTERS. everything: images of
        other platforms too, which only their index names.
        """
        from pybuild.engine import images
        from pybuild.engine.filters import Filters

        chosen = Filters.parse(filters, images.IMAGE_FILTERS)
        return images.images(self.store, pattern, chosen, everything=everything)

    def inspect(
        self, name: str, kind: str | None = None, platform: str | None = None
    ) -> dict[str, object]:
        """Return everything about the container or image called `name`, as docker's JSON.

        kind: `image` or `container` where only one of them is meant. platform: which image of an
        index. Raises NotFound, Ambiguous, ContainerError.
        """
        from pybuild.engine import containers, images

        if kind != "image":
            found = containers.inspected(self.store, name)
            if found is not None:
                return found
            if kind == "container":
                raise ContainerError(f"no such container: {name}")
        return images.describe(images.find(self.store, name, platform, any_object=kind is None))

    def history(self, name: str, platform: str | None = None) -> list[HistoryLine]:
        """Return how the image called `name` came about, newest line first."""
        from pybuild.engine import images

        return images.history(self.store, images.find(self.store, name, platform))

    def tag(self, source: str, target: str) -> None:
        """Give the image called `source` the name `target` too."""
        from pybuild.engine import images

        images.tag(self.store, source, target)

    def remove_image(self, name: str, *, force: bool = False) -> list[str]:
        """Remove a name, and with the last one the image; return a line for each thing done."""
        from pybuild.engine import removal

        return removal.remove(self.store, name, force=force)

    def prune_images(self, *, filters: Sequence[str] = (), everything: bool = False) -> Pruned:
        """Remove the images without a tag, or with `everything` all that no container is made of.

        filters: `key=value` each, of pybuild.engine.removal.PRUNE_FILTERS.
        """
        from pybuild.engine import removal
        from pybuild.engine.filters import Filters

        chosen = Filters.parse(filters, removal.PRUNE_FILTERS)
        return removal.prune(self.store, chosen, everything=everything)

    def import_rootfs(
        self,
        source: BinaryIO,
        *,
        reference: str | None = None,
        changes: tuple[str, ...] = (),
        message: str = "",
        platform: str | None = None,
    ) -> Image:
        """Make an image of the file system tarball `source` and return it.

        changes: Dockerfile instructions for its config.
        """
        from pybuild.engine import transfers

        require_privilege("import")
        return transfers.import_rootfs(
            self.store,
            source,
            reference=reference,
            changes=changes,
            message=message,
            platform=platform,
        )

    def downloaded(self, url: str) -> AbstractContextManager[BinaryIO]:
        """Give what `url` holds as a file that is gone afterwards."""
        from pybuild.engine import transfers

        return transfers.downloaded(self.store, url)

    def load(
        self, source: BinaryIO | str, platform: str | None = None
    ) -> list[tuple[Image, Reference | None]]:
        """Load the images of an archive, or of an OCI layout's folder, and return them.

        platform: only those for it.
        """
        from pybuild.engine import transfers

        require_privilege("load")
        return transfers.load(self.store, source, platform)

    def save(self, names: Sequence[str], target: BinaryIO, platform: str | None = None) -> None:
        """Write images to `target` as `docker save` does; of each the one for `platform`."""
        from pybuild.engine import transfers

        transfers.save(self.store, names, target, platform)

    def save_file(self, names: Sequence[str], path: str, platform: str | None = None) -> None:
        """Write images to the file `path`, which appears whole or not at all."""
        from pybuild.engine import transfers

        with transfers.whole_file(path) as target:
            transfers.save(self.store, names, target, platform)

    def export(self, name: str, target: BinaryIO) -> None:
        """Write the root file system of the container `name` to `target` as a tar."""
        from pybuild.engine import rootfs

        require_privilege("export")
        rootfs.export(self.store, name, target)

    def export_file(self, name: str, path: str) -> None:
        """Write the root file system of a container to `path`, which appears whole or not."""
        from pybuild.engine import transfers

        with transfers.whole_file(path) as target:
            self.export(name, target)

    def pull(
        self,
        name: str,
        *,
        platform: str | None = None,
        all_tags: bool = False,
        terms: RegistryTerms | None = None,
        watch: Watch | None = None,
    ) -> list[Pulled]:
        """Bring the image called `name`, or all tags of its repository, into the store.

        watch: called before each image, gives what takes its progress.
        """
        from pybuild.engine import registries

        require_privilege("pull")
        return registries.pull(
            self.store, name, platform=platform, all_tags=all_tags, terms=terms, watch=watch
        )

    def push(
        self,
        name: str,
        *,
        all_tags: bool = False,
        terms: RegistryTerms | None = None,
        watch: Watch | None = None,
    ) -> list[Pushed]:
        """Push the image called `name`, or all tags of its repository that are here.

        watch: called before each image, gives what takes its progress.
        """
        from pybuild.engine import registries

        return registries.push(self.store, name, all_tags=all_tags, terms=terms, watch=watch)

    def inspect_remote(self, name: str, *, terms: RegistryTerms | None = None) -> RemoteImage:
        """Return what a name means at its registry: platforms and attestations."""
        from pybuild.engine import remoteimages

        return remoteimages.inspect(name, terms)

    def remote_details(self, name: str, *, terms: RegistryTerms | None = None) -> dict[str, object]:
        """Return configs, lists of packages and provenance of what a name means, as JSON values."""
        from pybuild.engine import remoteimages

        return remoteimages.details(name, terms)

    def log_in(
        self, server: str, username: str, password: str, *, terms: RegistryTerms | None = None
    ) -> LoggedIn:
        """Show credentials to a registry, and keep them when it lets us in."""
        from pybuild.engine import registries

        return registries.log_in(server, username, password, terms)

    def log_out(self, server: str) -> tuple[str, bool]:
        """Forget the credentials for a registry; return its name and whether there were any."""
        from pybuild.engine import registries

        return registries.log_out(server)
