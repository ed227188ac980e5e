"""A build whose sources are those of its lock: `build --locked`.

Owns what is refused, and before anything runs: a source without an entry, and one that is not what
its entry says. What the lock names is taken, from here or from where it comes from, even when the
tag or the branch means something else by now.
"""

import os
import shlex
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from builder.definition import DockerfileText, SourceTree, path_inside
from builder.errors import BuildError, ContextError, InstructionError, Place
from builder.events import BuildWarning
from builder.gitref import GitRef, without_credentials, without_password
from builder.lockfile import Entry, Lock, LockedImage, from_text, is_pinned
from builder.namedcontexts import NamedContext
from builder.request import BuildRequest
from builder.secrets import Secrets
from builder.site import Progress
from builder.stages import StageList
from builder.vertex import DownloadOp, GitOp, Vertex, VertexID
from grammar import ast
from grammar.errors import ExpansionError
from grammar.expand import expand
from store.digest import Digest
from store.errors import InvalidReference, NotFound
from store.images import Image
from store.reference import Reference
from store.root import Store
from values.classes import dataclass, field, replace

if TYPE_CHECKING:
    from builder.gitcheckout import Commit
    from builder.planning import BuildPlan

Fetch = Callable[[Reference, Place, str], Image]
_LARGEST_BYTES = 64 << 20


def named_path(request: BuildRequest) -> str | None:
    """Return where the lock of a request is, None if its Dockerfile has to be found first."""
    if request.lock_file is not None:
        return request.lock_file
    named = request.dockerfile
    return f"{named}.lock" if named is not None and os.path.isabs(named) else None


def path_beside(source: SourceTree, dockerfile: DockerfileText) -> str:
    """Return where the lock beside a Dockerfile is. Raises BuildError where there is no place."""
    if dockerfile.path is None:
        raise BuildError(
            "the Dockerfile is no file that a lock could stand beside",
            hint="say where the lock is with --lock-file FILE",
        )
    if source.is_local:
        return f"{dockerfile.path}.lock"
    # No link in what others made leads to a file of this machine.
    name = os.path.relpath(f"{dockerfile.path}.lock", source.path)
    return path_inside(source.path, name, source.follow)


def read_lock(path: str) -> Lock | None:
    """Return the lock at a path, None where there is no file. Raises BuildError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read(_LARGEST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BuildError(f"read {path}: {(error.strerror or str(error)).lower()}") from error
    return from_text(data, path)


def update_command(request: BuildRequest, name: str = "") -> str:
    """Return the command that takes what there is now into the lock of a request."""
    words = ["pybuild", "lock"]
    for option, value in (
        ("--file", request.dockerfile),
        ("--lock-file", request.lock_file),
        ("--platform", request.platform),
    ):
        words += [option, value] if value else []
    words += ["--update", without_password(request.context), name] if name else [request.context]
    return shlex.join(words)


@dataclass(slots=True)
class Locked:
    """The lock that a build goes by.

    lock: None until it was found. name: of its file. used: the keys that were asked for.
    """

    request: BuildRequest
    lock: Lock | None = None
    name: str = ""
    used: set[tuple[str, ...]] = field(default_factory=set)

    # -- finding it

    def open(self, path: str) -> None:
        """Read the lock at a path. Raises BuildError."""
        self.lock, self.name = read_lock(path), os.path.basename(path)
        if self.lock is None:
            raise BuildError(
                f"--locked: {path}: no such file",
                hint=f"{update_command(self.request)} writes it, with this build's arguments",
            )

    def find(self, source: SourceTree, dockerfile: DockerfileText) -> None:
        """Read the lock beside the Dockerfile, unless another was named. Raises BuildError."""
        if self.lock is None:
            self.open(path_beside(source, dockerfile))

    @property
    def known(self) -> Lock:
        """The lock. Raises ContextError where it would be in what has to be fetched first."""
        if self.lock is None:
            raise ContextError(
                f"--locked: what {without_password(self.request.context)} is cannot be in a lock "
                "that lies there",
                hint="give the name of a commit as #REF, or another lock with --lock-file FILE",
            )
        return self.lock

    # -- the main context

    def context(self, ref: GitRef) -> GitRef:
        """Return the repository that is the context, at its commit. Raises ContextError."""
        if is_pinned(ref):
            return ref
        entry = self.known.commit(ref)
        if entry is None:
            raise self._missing(None, f"build context {without_password(ref.remote)}")
        self.used.add(entry.key)
        return replace(ref, ref=entry.commit)

    def checksum(self, url: str) -> Digest:
        """Return what is to be at the address of the context or the Dockerfile.

        Raises ContextError.
        """
        entry = self.known.file(url)
        if entry is None:
            raise self._missing(None, without_password(url))
        self.used.add(entry.key)
        return entry.digest

    # -- what instructions name

    def image(self, reference: Reference, platform: str, place: Place) -> LockedImage:
        """Return the entry of an image. Raises InstructionError."""
        entry = self.known.image(str(reference), platform)
        if entry is None:
            raise self._missing(place, f"{reference.familiar()} ({platform})")
        self.used.add(entry.key)
        return entry

    def layout(self, context: NamedContext, platform: str) -> LockedImage:
        """Return the entry of a named context that is an OCI layout. Raises ContextError."""
        entry = self.known.image(layout_name(context), platform)
        if entry is None:
            raise self._missing(None, f"build context {context.name} ({platform})")
        self.used.add(entry.key)
        return entry

    def checked_layout(self, context: NamedContext, platform: str, image: Image) -> Image:
        """Return the image of a layout if it is the locked one. Raises ContextError."""
        if not context.digest:
            entry = self.layout(context, platform)
            if image.id != entry.config:
                shown = f"build context {context.name} ({platform})"
                raise self.differs(None, shown, entry.config, image.id, entry.name)
        return image

    def pin(
        self, vertices: MutableMapping[VertexID, Vertex], store: Store, secrets: Secrets
    ) -> "dict[GitRef, Commit]":
        """Let downloads have the checksums of the lock; return the commits of its repositories.

        The files are fetched now, unless they are here. Raises InstructionError.
        """
        commits = {}
        for name, vertex in vertices.items():
            op = vertex.op
            if isinstance(op, GitOp) and not is_pinned(op.ref):
                commits[op.ref] = self._commit(op.ref, vertex.place)
            elif isinstance(op, DownloadOp) and op.checksum is None:
                # The vertex keeps its name: that is of what it is, not of how it is proven.
                vertices[name] = replace(vertex, op=self._download(op, vertex, store, secrets))
        return commits

    def _commit(self, ref: GitRef, place: Place) -> "Commit":
        from builder.gitcheckout import Commit, GitFailure, checked

        entry = self.known.commit(ref)
        if entry is None:
            shown = f"{without_password(ref.remote)} {ref.ref}".rstrip()
            raise self._missing(place, f"git repository {shown}")
        self.used.add(entry.key)
        try:
            return checked(Commit(entry.commit, "", entry.commit), ref)
        except GitFailure as error:
            raise InstructionError(place, str(error), hint=error.hint) from error

    def _download(
        self, op: DownloadOp, vertex: Vertex, store: Store, secrets: Secrets
    ) -> DownloadOp:
        # requests takes 100 ms to import.
        from builder.ops.remote import pinned_digest

        entry = self.known.file(op.url)
        if entry is None:
            raise self._missing(vertex.place, without_password(op.url))
        self.used.add(entry.key)
        op = replace(op, checksum=entry.digest)
        found = pinned_digest(op, vertex, store, secrets)
        if found != entry.digest:
            raise self.differs(vertex.place, entry.url, entry.digest, found, entry.url)
        return op

    def digest(self, reference: Reference, image: Image) -> Digest:
        """Return what the name of an image of the lock meant: see LockedImage.value."""
        for entry in self.known.entries.values():
            is_it = isinstance(entry, LockedImage) and entry.name == str(reference)
            if isinstance(entry, LockedImage) and is_it and entry.config == image.id:
                return entry.value
        return image.id

    # -- what is left over

    def warn_of_rest(
        self, plans: "Sequence[BuildPlan]", stages: StageList, progress: Progress
    ) -> None:
        """Warn of entries that no stage of the Dockerfile needs on the plans' platforms."""
        wanted = {plan.platform for plan in plans}
        scope = plans[0].target.plan.global_env
        named = Named.by(stages, scope)
        for key, entry in sorted(self.known.entries.items()):
            if key in self.used or named.has(entry):
                continue
            if not isinstance(entry, LockedImage) or entry.platform in wanted:
                text = f"{self.name}: {entry.shown} is not used any more; pybuild lock removes it"
                progress.emit(BuildWarning("StaleLock", text, None))

    # -- what is refused

    def _missing(self, place: Place | None, shown: str) -> BuildError:
        hint = f"{update_command(self.request)} adds it, with this build's arguments"
        return _error(place, f"{shown} is not in {self.name}", hint)

    def differs(
        self, place: Place | None, shown: str, expected: str, found: str, name: str
    ) -> BuildError:
        """Return the error for a source that is not what the lock says."""
        return _error(
            place,
            f"{shown} is not as in {self.name}: expected {expected}, found {found}",
            f"{update_command(self.request, name)} takes what is there now",
        )


def _error(place: Place | None, message: str, hint: str) -> BuildError:
    if place is None:
        return ContextError(message, hint=hint)
    return InstructionError(place, message, hint=hint)


@dataclass(frozen=True, slots=True)
class Named:
    """What the text of a Dockerfile names, whether a build comes to it or not.

    images: complete names. addresses: of ADD, up to their first variable.
    """

    images: frozenset[str]
    addresses: tuple[str, ...]

    @classmethod
    def by(cls, stages: StageList, scope: Mapping[str, str]) -> "Named":
        """Read all stages; scope: the ARGs before the first of them."""
        words: set[str] = set()
        addresses: list[str] = []
        for stage in stages.stages:
            with suppress(ExpansionError):
                escape = stages.dockerfile.directives.escape
                words.add(expand(stage.from_.image, scope, escape).value)
            for node in stage.instructions:
                if isinstance(node, ast.Copy) and node.from_:
                    words.add(node.from_)
                elif isinstance(node, ast.Run):
                    froms = (dict(mount.options).get("from") for mount in node.mounts)
                    words.update(filter(None, froms))
                elif isinstance(node, ast.Add):
                    addresses += node.sources
        names: set[str] = set()
        for word in words:
            with suppress(InvalidReference):
                names.add(str(Reference.parse(word)))
        return cls(frozenset(names), tuple(addresses))

    def has(self, entry: Entry) -> bool:
        """Tell whether some stage may need an entry."""
        if isinstance(entry, LockedImage):
            return entry.name in self.images
        for address in self.addresses:
            start, variable, _ = without_credentials(address).partition("$")
            if entry.key[1].startswith(start) if variable else start.startswith(entry.key[1]):
                return True
        return False


def opened_lock(request: BuildRequest) -> Locked:
    """Return the lock of a request, read if it is known where. Raises BuildError."""
    locked = Locked(request)
    path = named_path(request)
    if path is not None:
        locked.open(path)
    return locked


def layout_name(context: NamedContext) -> str:
    """Return what the lock calls a named context that is an OCI layout."""
    return f"oci-layout://{context.where}{f':{context.tag}' if context.tag else ''}"


@dataclass(slots=True)
class LockedImages:
    """The images of a lock. fetch: brings one from its registry by its digest."""

    store: Store
    locked: Locked
    fetch: Fetch

    def image(self, reference: Reference, place: Place, platform: str) -> Image:
        """Return the image that the lock names, from the store or by its digest.

        Raises InstructionError.
        """
        entry = self.locked.image(reference, platform, place)
        here = self._here(entry.config)
        if here is not None:
            return here
        shown = f"{reference.familiar()} ({platform})"
        if entry.digest is None:
            raise self.locked.differs(
                place, shown, entry.config, self._found(reference), str(reference)
            )
        pinned = replace(reference, tag=None, digest=entry.digest)
        image = self.fetch(pinned, place, platform)
        if image.id != entry.config:
            # Whoever wrote the lock by hand: the digest leads to another image.
            raise self.locked.differs(place, shown, entry.config, image.id, str(reference))
        return image

    def _here(self, image_id: Digest) -> Image | None:
        try:
            image = self.store.images.get(image_id)
        except NotFound:
            return None
        return image if all(map(self.store.layers.has, image.config.diff_ids)) else None

    def _found(self, reference: Reference) -> str:
        """Return what a name means here, for an error."""
        record = self.store.images.reference(reference)
        return record.image_id if record is not None else "no image of this name"
