"""`Engine`: the one thing that faces talk to.

Owns the open store and nothing else; each method hands over to the module that knows how. What is
not a method here cannot be done by the command line nor by any other face.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO, Self

from pybuild.errors import ContainerError, NotPrivileged

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from builder.context import DockerfileText
    from builder.events import Event
    from builder.lint.check import CheckReport
    from builder.outline import Outline, Target
    from builder.request import BuildRequest
    from pybuild.engine.builds import BuildResult
    from pybuild.engine.cachemounts import CacheMountSize, TreeLine
    from pybuild.engine.images import HistoryLine
    from pybuild.engine.records import ContainerRecord
    from pybuild.engine.registries import RegistryTerms, Watch
    from pybuild.engine.removal import Pruned
    from pybuild.engine.runrequest import RunRequest
    from pybuild.engine.upkeep import CacheEntry
    from registry_client.login import LoggedIn
    from registry_client.pull import Pulled
    from registry_client.push import Pushed
    from runtime.cancel import Cancel
    from store.images import Image
    from store.reference import Reference
    from store.root import Store


def default_root() -> str:
    """Return the folder of the store where no one named another.

    PYBUILD_ROOT, else /var/lib/pybuild for root and $XDG_DATA_HOME/pybuild for others.
    """
    named = os.environ.get("PYBUILD_ROOT")
    if named:
        return named
    if os.geteuid() == 0:
        return "/var/lib/pybuild"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "pybuild")


def require_privilege(what: str) -> None:
    """Raise NotPrivileged when this process may not do what containers and layers need.

    Asked before the store is touched.
    """
    from pybuild.engine.info import missing_privileges

    missing = missing_privileges()
    if missing:
        raise NotPrivileged(
            f"{what}: not enough privilege: this process lacks {', '.join(missing)}",
            hint="run it as root, for example with sudo; running without root is not supported yet",
        )


class Engine:
    """Builds, runs and keeps images in one store.

    A context manager. The store is opened when something first needs it, and closed at the end.
    """

    def __init__(self, root: str | None = None) -> None:
        self.root = os.path.abspath(root or default_root())
        self._store: Store | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; the next use opens it again."""
        store, self._store = self._store, None
        if store is not None:
            store.__exit__(None, None, None)

    @property
    def store(self) -> Store:
        """The open store. Raises StoreError when it cannot be opened."""
        if self._store is None:
            from store.root import Store

            self._store = Store.open(self.root).__enter__()
        return self._store

    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel | None = None
    ) -> BuildResult:
        """Build `request`, reporting every event as it happens, and return what was made."""
        from pybuild.engine.builds import build

        require_privilege("build")
        return build(self, request, on_event, cancel)

    def lint(self, request: BuildRequest) -> CheckReport:
        """Lint the Dockerfile of `request`; nothing is built or pulled."""
        from pybuild.engine import builds

        return builds.check(self, request)

    def outline(self, request: BuildRequest) -> tuple[DockerfileText, Outline]:
        """Return what the target of `request` takes: ARGs, secrets, ssh; and the text read."""
        from pybuild.engine import builds

        return builds.outline(self, request)

    def targets(self, request: BuildRequest) -> tuple[DockerfileText, tuple[Target, ...]]:
        """Return the targets of the Dockerfile of `request`; and the text read."""
        from pybuild.engine import builds

        return builds.targets(self, request)

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

    def run(
        self,
        request: RunRequest,
        *,
        on_created: Callable[[str], None] | None = None,
        watch: Watch | None = None,
    ) -> int:
        """Make a container, run it to its end with our stdio, and return its exit code.

        on_created: called with the container's ID before its command starts. watch: called before
        a pull, gives what takes its progress.
        Raises ContainerError and RuntimeFailure when the command cannot be started.
        """
        from runtime.launcher import Launchers

        require_privilege("run")
        with Launchers() as launchers:
            launchers.prepare()  # it gets ready while the rest is imported
            from pybuild.engine import containers

            return containers.run(self.store, request, on_created, watch, launchers)

    def containers(self, *, everything: bool = False) -> list[ContainerRecord]:
        """Return the containers that run, or all there are, newest first."""
        from pybuild.engine import containers

        return containers.listed(self.store, everything=everything)

    def remove_container(self, name: str, *, force: bool = False) -> None:
        """Remove a container. Raises ContainerError when it runs, unless `force`: it is killed."""
        from pybuild.engine import containers

        containers.remove(self.store, name, force=force)

    def prune_containers(self, *, filters: Sequence[str] = ()) -> Pruned:
        """Remove the containers that do not run.

        filters: `key=value` each, of pybuild.engine.removal.CONTAINER_FILTERS.
        """
        from pybuild.engine import removal
        from pybuild.engine.filters import Filters

        chosen = Filters.parse(filters, removal.CONTAINER_FILTERS)
        return removal.prune_containers(self.store, chosen)

    def cache_entries(self) -> list[CacheEntry]:
        """Return what the build cache remembers, newest first."""
        from pybuild.engine import upkeep

        return upkeep.cache_entries(self.store)

    def cache_mounts(self) -> list[CacheMountSize]:
        """Return the directories of `RUN --mount=type=cache`, by their ids."""
        from pybuild.engine import cachemounts

        return cachemounts.cache_mounts(self.store)

    def cache_mount_trees(self, id_: str) -> list[list[TreeLine]]:
        """Return what is in each directory of the cache mounts called `id_`. Raises NotFound."""
        from pybuild.engine import cachemounts

        return cachemounts.trees(self.store, id_)

    def remove_cache_mounts(self, ids: Sequence[str]) -> list[str]:
        """Clear the cache mounts called so, all without `ids`; return the ids. Raises NotFound."""
        from pybuild.engine import cachemounts

        return cachemounts.remove(self.store, ids)

    def export_cache_mounts(self, ids: Sequence[str], target: BinaryIO | str) -> None:
        """Write cache mounts, all without `ids`, to a stream or a file. Raises NotFound."""
        from pybuild.engine import cachemounts

        cachemounts.export(self.store, ids, target)

    def import_cache_mounts(self, source: BinaryIO) -> list[str]:
        """Take in what `export_cache_mounts` wrote; return the ids. Raises BadArchive."""
        from pybuild.engine import cachemounts

        return cachemounts.import_(self.store, source)

    def info(self) -> dict[str, object]:
        """Return what there is to know about the installation, the host and the store."""
        from pybuild.engine import info

        return info.described(self.store)

    def check(self, *, deep: bool = False) -> list[str]:
        """Return a line for each damage in the store; `deep` reads every byte."""
        from pybuild.engine import upkeep

        return upkeep.check(self.store, deep=deep)

    def prune(self, *, forget_cache: bool = False) -> int:
        """Remove what nothing refers to and return the bytes that freed."""
        from pybuild.engine import upkeep

        return upkeep.prune(self.store, forget_cache=forget_cache)
