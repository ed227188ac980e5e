"""Base images: those of the store, and from their registry what is missing or asked for anew."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from builder.absent import Absent
from builder.errors import BaseImageNotFound, ContextError, Place
from builder.namedcontexts import NamedContext
from builder.request import BuildRequest
from builder.site import Progress, Step
from store import platforms
from store.digest import Digest
from store.errors import NotFound, StoreError
from store.images import Image
from store.oci import Platform
from store.reference import Reference
from store.root import Store
from values.classes import dataclass, field, replace

if TYPE_CHECKING:
    from builder.locked import Locked


class BaseSource(Protocol):
    """Where lowering gets base images from."""

    def image(self, reference: Reference, place: Place, platform: str) -> Image:
        """Return an image for the instruction at a place. Raises BaseImageNotFound."""

    def layout(self, context: NamedContext, platform: str) -> Image:
        """Return the image of a named context that is an OCI layout. Raises ContextError."""


@dataclass(frozen=True, slots=True)
class StoredBases:
    """The images of the store, and no others."""

    store: Store

    def image(self, reference: Reference, place: Place, platform: str) -> Image:
        """Return an image of the store. Raises BaseImageNotFound."""
        try:
            return self.store.images.find(str(reference), platform=_foreign(platform))
        except NotFound as error:
            raise BaseImageNotFound(
                place,
                f"{reference.familiar()}: image not found in the store",
                hint="`pybuild images` lists what is there; pull, load or import takes images in",
            ) from error

    def layout(self, context: NamedContext, platform: str) -> Image:
        """Give none. Raises ContextError."""
        raise ContextError(f"build context {context.name}: {context.where} cannot be read here")


@dataclass(slots=True)
class Bases:
    """The base images of one build, each asked for once.

    absent: with it, what is not here is looked at only; its layers are pulled when something needs
    them. locked: with it, names mean what the lock says. asked: what was given so far.
    """

    store: Store
    request: BuildRequest
    progress: Progress
    absent: Absent | None = None
    locked: "Locked | None" = None
    asked: dict[Reference, Image] = field(default_factory=dict)
    _pulled: dict[tuple[Reference, str], Image] = field(default_factory=dict)

    def image(self, reference: Reference, place: Place, platform: str) -> Image:
        """Return an image, pulled unless it is here. Raises BaseImageNotFound, StoreError."""
        image = self.asked[reference] = self._image(reference, place, platform)
        return image

    def _image(self, reference: Reference, place: Place, platform: str) -> Image:
        if self.locked is not None and reference.digest is None:
            from builder.locked import LockedImages

            locked = LockedImages(self.store, self.locked, self._fetched)
            return locked.image(reference, place, platform)
        key = (reference, platform)
        if key in self._pulled:
            return self._pulled[key]
        if not self.request.pull:
            with suppress(NotFound):
                image = self.store.images.find(str(reference), platform=_foreign(platform))
                # One that lost a layer to damage is fetched again.
                if all(map(self.store.layers.has, image.config.diff_ids)):
                    return image
        return self._fetched(reference, place, platform)

    def _fetched(self, reference: Reference, place: Place, platform: str) -> Image:
        """Return an image of a registry."""
        key = (reference, platform)
        if key not in self._pulled:
            wanted = platforms.parse(platform)
            if self.absent is not None:
                self._pulled[key] = self._look_at(reference, place, wanted, self.absent)
            else:
                self._pulled[key] = self._pull(reference, place, wanted)
        return self._pulled[key]

    def digests(self) -> dict[Reference, Digest]:
        """Return what the names of the images meant: an index, a manifest, else a config."""
        found = {}
        for reference, image in self.asked.items():
            if self.locked is not None and reference.digest is None:
                found[reference] = self.locked.digest(reference, image)
                continue
            record = self.store.images.reference(reference)
            is_it = record is not None and record.image_id == image.id
            found[reference] = record.target.digest if record and is_it else image.id
        return found

    def layout(self, context: NamedContext, platform: str) -> Image:
        """Return the image of a named context that is an OCI layout. Raises ContextError."""
        # Archives take 10 ms to import.
        from builder.layoutimages import layout_image

        image = layout_image(self.store, context, platforms.parse(platform))
        if self.locked is not None:
            return self.locked.checked_layout(context, platform, image)
        return image

    def _look_at(
        self, reference: Reference, place: Place, platform: Platform, absent: Absent
    ) -> Image:
        """Return an image whose layers stay where they are. Raises BaseImageNotFound."""
        # requests takes 100 ms to import.
        from builder.lazyimages import look_at

        def pull() -> None:
            pulled = self._pull(pinned, place, platform)
            if platform == platforms.host():
                self.store.images.tag(pulled.id, reference)

        step = self.progress.begin(f"[internal] load metadata for {reference}")
        with self._missing(step, reference, place):
            seen = look_at(self.store, reference, platform, self.request)
        pinned = replace(reference, tag=None, digest=seen.digest)
        step.message(f"digest: {seen.digest}")
        step.done()
        if not all(map(self.store.layers.has, seen.image.config.diff_ids)):
            absent.offer_whole(seen.image.config.diff_ids, pull)
            for diff_id, origin in seen.layers:
                absent.offer(diff_id, origin)
        return seen.image

    def _pull(self, reference: Reference, place: Place, platform: Platform) -> Image:
        # requests takes 100 ms to import.
        from builder.transfers import Narrator, access_of
        from registry_client.pull import pull

        images = self.store.images
        before = images.reference(reference)
        step = self.progress.begin(f"[internal] pull {reference}")
        with self._missing(step, reference, place):
            pulled = pull(
                self.store,
                reference,
                platform=platform,
                access=access_of(self.request),
                on_event=Narrator(step),
            )
        if platform != platforms.host() and reference.digest is None:
            # Whoever runs the name means this machine's image.
            if before is None:
                images.untag(reference)
            else:
                images.tag(before.image_id, reference, target=before.target)
        step.message(f"digest: {pulled.target.digest}")
        step.done()
        return pulled.image

    @contextmanager
    def _missing(self, step: Step, reference: Reference, place: Place) -> Iterator[None]:
        """Turn a registry's errors into those of the instruction that names the image."""
        from registry_client.errors import RegistryError

        try:
            yield
        except BaseException as error:
            step.failed(error)
            if not isinstance(error, RegistryError | StoreError):
                raise
            cause = str(error).removeprefix(f"pull {reference.familiar()}: ")
            missing = "" if self.request.pull else "image not found in the store, and it "
            message = f"{reference.familiar()}: {missing}cannot be pulled: {cause}"
            raise BaseImageNotFound(place, message, hint=error.hint) from error


def _foreign(platform: str) -> Platform | None:
    """Return the platform that an image has to be for; None for this machine's.

    As docker does, an image that is called by name is taken on this machine's platform whatever it
    is for; a warning tells.
    """
    wanted = platforms.parse(platform)
    return None if wanted == platforms.host() else wanted
