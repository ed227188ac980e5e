"""Making a lock: what the sources of a Dockerfile are now, or were when they were locked.

All stages are lowered, or with a target those that it needs; nothing is run, and of images that are
not here manifest and config alone are asked for. An entry that is there stays as it is, unless it
is to be updated; one that nothing needs goes.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from builder.definition import SourceTree, read_dockerfile
from builder.errors import BaseImageNotFound, BuildError, ContextError, InstructionError, Place
from builder.events import OnEvent
from builder.gitcheckout import Git, GitFailure
from builder.gitref import GitRef, without_credentials, without_password
from builder.layoutimages import layout_image
from builder.lazyimages import look_at
from builder.locked import Locked, LockedImages, layout_name, named_path, path_beside, read_lock
from builder.lockfile import (
    Entry,
    Lock,
    LockedCommit,
    LockedFile,
    LockedImage,
    is_pinned,
    to_text,
)
from builder.namedcontexts import NamedContext
from builder.ops.remote import fetch_file
from builder.planning import Planner
from builder.ready import parse_dockerfile, platforms_of
from builder.request import BuildRequest
from builder.scanning import generator_of, plan_scan
from builder.secrets import Secrets
from builder.site import Progress, Step
from builder.sourcetree import git_context, is_url, opened_source
from builder.supplies import supplies_of
from builder.vertex import DownloadOp, GitOp, Vertex, VertexID
from grammar import tables
from registry_client.errors import RegistryError
from runtime.cancel import Cancel
from store import mediatypes, platforms
from store.digest import Digest
from store.errors import NotFound, StoreError
from store.images import Image
from store.reference import Reference
from store.root import Store
from values.classes import dataclass, field, replace

_EMPTY = Lock({})


@dataclass(frozen=True, slots=True)
class Update:
    """Which entries are asked for again: all of them, or those of these names."""

    everything: bool = False
    names: tuple[str, ...] = ()

    def has(self, entry: Entry) -> bool:
        """Tell whether an entry is meant."""
        return self.everything or any(is_called(entry, name) for name in self.names)

    def check(self, lock: Lock, shown: str) -> None:
        """Raise BuildError for a name that no entry has."""
        for name in self.names:
            if not any(is_called(entry, name) for entry in lock.entries.values()):
                there = ", ".join(sorted({e.key[1] for e in lock.entries.values()}))
                raise BuildError(
                    f"lock --update: {name} is not in {shown}",
                    hint=f"there is: {there}" if there else f"pybuild lock writes {shown}",
                )


def is_called(entry: Entry, name: str) -> bool:
    """Tell whether a name means an entry: as it is shown, complete, or without tag or ref."""
    if not isinstance(entry, LockedImage) or "://" in entry.name:
        return name in (entry.shown, entry.key[1])
    reference = Reference.parse(entry.name)
    return name in (entry.name, reference.familiar(), reference.name, reference.familiar_name)


@dataclass(frozen=True, slots=True)
class Locking:
    """What came of it: where the lock is, what it said (None without a file) and what it is now."""

    path: str
    before: Lock | None
    after: Lock

    @property
    def is_current(self) -> bool:
        """Tell whether the file says already what it should."""
        return self.before is not None and self.before.entries == self.after.entries

    def write(self) -> None:
        """Write the lock, whole. Raises BuildError."""
        temporary = f"{self.path}.{os.getpid()}.part"
        try:
            with open(temporary, "wb") as file:
                file.write(to_text(self.after).encode("utf-8", "surrogateescape"))
            os.replace(temporary, self.path)
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            raise BuildError(f"write {self.path}: {cause}") from error


def lock_sources(
    store: Store, request: BuildRequest, update: Update, on_event: OnEvent, cancel: Cancel
) -> Locking:
    """Return the lock of what a request builds; nothing is written.

    Raises BuildError, GrammarError, StoreError.
    """
    progress = Progress(on_event)
    path = named_path(request)
    with store.lease(), supplies_of(store, request) as supplies:
        sources = Sources(store, request, update, progress, cancel, supplies.secrets)
        if path is not None:
            sources.read(path)
        sources.lock_context()
        context = Locked(request, Lock(sources.found), "the lock")
        with opened_source(store, request, progress, cancel, sources.secrets, context) as source:
            if path is None:
                path = sources.place_of(source)
                sources.read(path)
            sources.lock_stages(source)
    return Locking(path, sources.old, Lock(sources.found))


@dataclass(slots=True)
class Sources:
    """The sources of one request as they are found; a source of base images for lowering.

    old: the lock that is there. found: the entries of the one that is made.
    """

    store: Store
    request: BuildRequest
    update: Update
    progress: Progress
    cancel: Cancel
    secrets: Secrets
    old: Lock | None = None
    name: str = "the lock"
    found: dict[tuple[str, ...], Entry] = field(default_factory=dict)
    _images: dict[tuple[Reference, str], Image] = field(default_factory=dict)

    def read(self, path: str) -> None:
        """Read the lock that is there. Raises BuildError for one that is damaged."""
        self.old, self.name = read_lock(path), os.path.basename(path)
        self.update.check(self.old or _EMPTY, self.name)

    def place_of(self, source: SourceTree) -> str:
        """Return where the lock goes. Raises BuildError for what is not ours to write to."""
        dockerfile = read_dockerfile(self.request, source)
        if not source.is_local:
            raise BuildError(
                f"lock: no file can be put beside the Dockerfile of {source.shown}",
                hint="say where the lock goes with --lock-file FILE",
            )
        return path_beside(source, dockerfile)

    def kept(self, key: tuple[str, ...]) -> bool:
        """Tell whether the entry that is there stays; it is among those found then."""
        entry = None if self.old is None else self.old.entries.get(key)
        if entry is None or self.update.has(entry):
            return False
        self.found[key] = entry
        return True

    # -- what is asked for

    def lock_context(self) -> None:
        """Lock the main context and the Dockerfile, as far as they are from elsewhere."""
        request = self.request
        repository = git_context(request.context)
        if repository is not None:
            self.lock_commit(repository, None)
        elif is_url(request.context):
            self.lock_file(request.context, None)
        if request.dockerfile is not None and is_url(request.dockerfile):
            self.lock_file(request.dockerfile, None)

    def lock_stages(self, source: SourceTree) -> None:
        """Lock what the stages name, on each platform."""
        dockerfile = read_dockerfile(self.request, source)
        trees = os.path.join(self.store.root, "trees")
        os.makedirs(trees, mode=0o700, exist_ok=True)
        stages = parse_dockerfile(dockerfile, trees, self.progress)
        with tables.kept_in(trees):
            for platform in platforms_of(self.request):
                planner = Planner(self, self.request, stages, platform, lambda *_: None)
                target = self.request.target
                for stage in (stages.target(target),) if target else stages.stages:
                    planner.stage(stage)
                generator = generator_of(self.request)
                if generator is not None:
                    plan_scan(planner.stage(stages.target(target)), generator)
                self.lock_vertices(planner.plan.vertices)

    def lock_vertices(self, vertices: Mapping[VertexID, Vertex]) -> None:
        """Lock what ADD and named contexts bring."""
        for vertex in vertices.values():
            op = vertex.op
            if isinstance(op, GitOp):
                self.lock_commit(op.ref, vertex.place)
            elif isinstance(op, DownloadOp) and op.checksum is None:
                self.lock_file(op.url, vertex.place)

    def lock_file(self, url: str, place: Place | None) -> None:
        """Lock the file at an address."""
        shown = without_credentials(url)
        if self.kept(("file", shown)) or ("file", shown) in self.found:
            return
        with self._asking(f"[internal] lock {without_password(url)}", place) as step:
            fetched, _ = fetch_file(DownloadOp(url), self.store, self.secrets)
            step.message(fetched.digest)
        self._add(LockedFile(shown, fetched.digest))

    def lock_commit(self, ref: GitRef, place: Place | None) -> None:
        """Lock a ref of a repository."""
        remote = without_credentials(ref.remote)
        key = ("git", remote, ref.ref)
        if is_pinned(ref) or self.kept(key) or key in self.found:
            return
        shown, secrets = f"{without_password(ref.remote)} {ref.ref}".rstrip(), self.secrets
        with self._asking(f"[internal] lock {shown}", place) as step:
            commit = Git(self.cancel, secrets.value, agent=secrets.key_agent).find(ref)
            step.message(commit.commit)
        self._add(LockedCommit(remote, ref.ref, commit.commit))

    def _add(self, entry: Entry) -> None:
        self.found[entry.key] = entry

    @contextmanager
    def _asking(self, name: str, place: Place | None) -> Iterator[Step]:
        """Ask somebody else in a step of its own, and say who asked."""
        step = self.progress.begin(name)
        try:
            yield step
        except (RegistryError, GitFailure) as error:
            if place is None:
                failure: BuildError = ContextError(str(error), hint=error.hint)
            else:
                failure = InstructionError(place, str(error), hint=error.hint)
            step.failed(failure)
            raise failure from error
        except BaseException as error:
            step.failed(error)
            raise
        step.done()

    # -- images, for lowering

    def image(self, reference: Reference, place: Place, platform: str) -> Image:
        """Return an image, with its config at least, and lock it. Raises BaseImageNotFound."""
        if (reference, platform) not in self._images:
            self._images[reference, platform] = self._image(reference, place, platform)
        return self._images[reference, platform]

    def _image(self, reference: Reference, place: Place, platform: str) -> Image:
        name = str(reference)
        if reference.digest is None and self.kept(("image", name, platform)):
            locked = Locked(self.request, self.old, self.name)
            return LockedImages(self.store, locked, self._look).image(reference, place, platform)
        image, digest = self._now(reference, place, platform)
        if reference.digest is None:
            self._add(LockedImage(name, platform, image.id, digest))
        return image

    def layout(self, context: NamedContext, platform: str) -> Image:
        """Return the image of a named context that is an OCI layout, and lock it."""
        wanted = platforms.parse(platform)
        image = layout_image(self.store, context, wanted, with_layers=False)
        key = ("image", layout_name(context), platform)
        if context.digest:
            return image
        if self.kept(key):
            locked = Locked(self.request, self.old, self.name)
            return locked.checked_layout(context, platform, image)
        self._add(LockedImage(key[1], platform, image.id))
        return image

    def _now(
        self, reference: Reference, place: Place, platform: str
    ) -> tuple[Image, Digest | None]:
        """Return what a name means now, and the digest that its registry has for it."""
        asks = self.request.pull or self._is_updated(str(reference))
        image, digest = self._here(reference, platform)
        if image is not None and (digest is None or not asks):
            return image, digest
        # All platforms of a name are of one index.
        known = next((e.digest for e in self._found_as(str(reference)) if e.digest), None)
        pinned = reference if known is None else replace(reference, tag=None, digest=known)
        return self._asked(pinned, place, platform)

    def _found_as(self, name: str) -> Iterator[LockedImage]:
        """Yield the entries of a name that have been found."""
        for entry in self.found.values():
            if isinstance(entry, LockedImage) and entry.name == name:
                yield entry

    def _is_updated(self, name: str) -> bool:
        entries = self.old.entries.values() if self.old is not None else ()
        same = (e for e in entries if isinstance(e, LockedImage) and e.name == name)
        return any(map(self.update.has, same))

    def _here(self, reference: Reference, platform: str) -> tuple[Image | None, Digest | None]:
        """Return the image of the store that a build takes, and its registry's digest if known."""
        wanted = platforms.parse(platform)
        foreign = None if wanted == platforms.host() else wanted
        try:
            image = self.store.images.find(str(reference), platform=foreign)
        except NotFound:
            return None, None
        if not all(map(self.store.layers.has, image.config.diff_ids)):
            return None, None
        return image, self._origin(reference)

    def _origin(self, reference: Reference) -> Digest | None:
        """Return the digest under which an image came from its registry, or went there."""
        images = self.store.images
        record = images.reference(reference)
        if record is None or record.target.media_type in mediatypes.CONFIGS:
            return None
        pinned = replace(reference, tag=None, digest=record.target.digest)
        return record.target.digest if images.reference(pinned) is not None else None

    def _asked(self, reference: Reference, place: Place, platform: str) -> tuple[Image, Digest]:
        """Ask an image's registry for it. Raises BaseImageNotFound."""
        step = self.progress.begin(f"[internal] load metadata for {reference}")
        try:
            seen = look_at(self.store, reference, platforms.parse(platform), self.request)
        except (RegistryError, StoreError) as error:
            cause = str(error).removeprefix(f"pull {reference.familiar()}: ")
            message = f"{reference.familiar()}: cannot be locked: {cause}"
            failure = BaseImageNotFound(place, message, hint=error.hint)
            step.failed(failure)
            raise failure from error
        except BaseException as error:
            step.failed(error)
            raise
        step.message(f"digest: {seen.digest}")
        step.done()
        return seen.image, seen.digest

    def _look(self, reference: Reference, place: Place, platform: str) -> Image:
        return self._asked(reference, place, platform)[0]
