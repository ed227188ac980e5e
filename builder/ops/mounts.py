"""RUN's mounts as a step needs them: their part of the cache key, and how they are made.

A bind mount counts by the content that it shows, as COPY does. A cache mount counts by what a new
one begins as, never by what is in it; a secret or an agent by its name and place, never by its
value. Source: BuildKit's keys of exec operations.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from builder.contenthash import Match, states, tree_digest
from builder.errors import BuildError, InstructionError
from builder.ops.copyfiles import Target, copy_whole
from builder.ops.sources import missing_source
from builder.runmounts import (
    BindMount,
    CacheMount,
    RunMount,
    ScriptMount,
    SecretMount,
    SshMount,
    TmpfsMount,
)
from builder.site import Result, Site
from builder.supplies import FROZEN
from builder.tree import PathNotFound, Tree
from builder.vertex import RunOp, Vertex, canonical_digest
from runtime.execution import Bind, FileMount, Tmpfs
from runtime.mounting import open_overlay
from store import ownership
from store.activesnapshot import Active
from store.cachemounts import CacheMountKey, Instance
from store.digest import DiffID, Digest, digest_of
from store.mount import OverlayMount
from values.classes import asdict, dataclass, field

_STRICTNESS = {"shared": 0, "private": 1, "locked": 2}
# BuildKit's tmpfs is nosuid only.
_TMPFS_OPTIONS = ("dev", "exec")


@dataclass(frozen=True, slots=True)
class Place:
    """One step whose mounts are meant: its vertex, its inputs' results and the build it is in."""

    vertex: Vertex
    inputs: Sequence[Result]
    site: Site

    def content(self, mount: BindMount | CacheMount) -> Digest | None:
        """Return the digest of what a mount takes from its source; None when that is nothing.

        Raises SourceNotFound, FileChanged.
        """
        if mount.input is not None:
            return self.stage_content(self.inputs[mount.input].chain, mount.path)
        if isinstance(mount, BindMount):
            return tree_digest(self.context_match(mount.path), with_owner=True)
        return None

    def context_match(self, path: str) -> Match:
        """Return the files of the context at `path`. Raises SourceNotFound, FileChanged."""
        context = self.site.context
        try:
            return context.match(path)
        except PathNotFound as error:
            raise missing_source(error, self.vertex, context.ignore_file) from error

    def stage_content(self, chain: tuple[DiffID, ...], path: str) -> Digest:
        """Return the content at `path` of a stage, remembered by the stage's layers."""
        selector = canonical_digest([list(chain), path])
        known = self.site.recall("mounted", selector)
        if known is not None:
            return Digest(known)
        self.site.absent.need(chain)
        with Tree(open_overlay(self.site.store.snapshots.view(chain))) as tree:
            digest = tree_digest(self.stage_match(tree, path), with_owner=True)
        self.site.remember("mounted", selector, digest)
        return digest

    def stage_match(self, tree: Tree, path: str) -> Match:
        """Return what is at `path` in a stage's files. Raises SourceNotFound."""
        try:
            return tree.find(path)
        except PathNotFound as error:
            raise missing_source(error, self.vertex, None) from error

    def cache_key(self, mount: CacheMount) -> CacheMountKey:
        """Return what a cache mount is found by: another beginning makes it another one."""
        content = self.content(mount)
        if content is None and mount.owner is None:
            return CacheMountKey(mount.id)
        return CacheMountKey(mount.id, canonical_digest([content, mount.owner]))


def key_of_mounts(mounts: Sequence[RunMount], place: Place) -> list[dict[str, object]]:
    """Return what mounts add to a step's key, a row each. Raises SourceNotFound, FileChanged."""
    rows = []
    for mount in mounts:
        row: dict[str, object] = {"type": type(mount).__name__, **asdict(mount)}
        if isinstance(mount, BindMount | CacheMount):
            # Where content comes from is no part of it, nor where a cache is kept.
            row = {k: v for k, v in row.items() if k not in ("input", "path", "id", "sharing")}
            row["content"] = place.content(mount)
        elif isinstance(mount, ScriptMount):
            row["text"] = digest_of(mount.text.encode("utf-8", "surrogateescape"))
        rows.append(row)
    return rows


def files_of_mounts(mounts: Sequence[RunMount], place: Place) -> list[tuple[str, str]]:
    """Return the files of the context that mounts show, with their digests, for explanations."""
    return [
        row
        for mount in mounts
        if isinstance(mount, BindMount) and mount.input is None
        for row in states(place.context_match(mount.path))
    ]


@dataclass(slots=True)
class Provided:
    """What a step's container gets: mounts, variables, locks to hold; and values to hide.

    scratch: snapshots that were made for bind mounts, topmost first, by the mounts' numbers.
    """

    binds: list[Bind | Tmpfs | FileMount] = field(default_factory=list)
    env: list[tuple[str, str]] = field(default_factory=list)
    lock_fds: list[int] = field(default_factory=list)
    secrets: list[bytes] = field(default_factory=list)
    scratch: dict[int, list[Active]] = field(default_factory=dict)


@contextmanager
def provided(op: RunOp, place: Place) -> Iterator[Provided]:
    """Make a step's mounts ready for the time of the block. Raises BuildError, FileChanged."""
    made = Provided()
    with ExitStack() as stack:
        caches = take_caches(op.mounts, place, stack)
        for number, mount in enumerate(op.mounts):
            match mount:
                case BindMount():
                    scratch = made.scratch.setdefault(number, [])
                    made.binds.append(provide_bind(mount, place, scratch, stack))
                    made.lock_fds += [active.lock_fd for active in scratch[:1]]
                case CacheMount():
                    instance = caches[place.cache_key(mount)]
                    made.lock_fds.append(instance.lock_fd)
                    made.binds.append(Bind(instance.path, mount.target, mount.read_only))
                case TmpfsMount(target, size_bytes, read_only):
                    options = (*_TMPFS_OPTIONS, *(["ro"] if read_only else []))
                    made.binds.append(Tmpfs(target, size_bytes, options=options))
                case SecretMount():
                    provide_secret(mount, place, made)
                case SshMount():
                    provide_agent(mount, place, made, stack)
                case ScriptMount(target, text):
                    data = text.encode("utf-8", "surrogateescape")
                    made.binds.append(FileMount(target, data, 0o755))
        made.env += agent_variable(op)
        made.lock_fds = sorted(set(made.lock_fds))
        yield made


def provide_bind(mount: BindMount, place: Place, scratch: list[Active], stack: ExitStack) -> Bind:
    """Return a bind mount; where it can be written to, what is written goes with `stack`.

    scratch: takes the snapshots that are made for it, topmost first.
    """
    store = place.site.store
    if mount.input is not None:
        chain, subpath = place.inputs[mount.input].chain, mount.path
        if mount.read_only:
            return Bind(store.snapshots.view(chain), mount.target, True, subpath)
        active = stack.enter_context(store.snapshots.prepare(chain))
        scratch.append(active)
        return Bind(active.mount, mount.target, False, subpath)
    match = place.context_match(mount.path)
    digest = tree_digest(match, with_owner=True)
    frozen = place.site.supplies.frozen(place.site.context.tree.root, match, digest)
    assert frozen.mount.upper is not None
    view = OverlayMount(store.root, (frozen.mount.upper,))
    if not mount.read_only:
        active, view = store.snapshots.prepare_above(view)
        stack.enter_context(active)
        scratch.append(active)
    scratch.append(frozen)
    return Bind(view, mount.target, mount.read_only, FROZEN)


def take_caches(
    mounts: Sequence[RunMount], place: Place, stack: ExitStack
) -> dict[CacheMountKey, Instance]:
    """Return the directories of a step's cache mounts, the step's until `stack` ends.

    All steps take theirs in the same order, so two that want the same never wait for each other;
    a step that has to wait lends its job slot. Mounts of one step with one key have one directory.
    """
    wanted: dict[CacheMountKey, CacheMount] = {}
    for mount in mounts:
        if isinstance(mount, CacheMount):
            known = wanted.setdefault(place.cache_key(mount), mount)
            if _STRICTNESS[mount.sharing] > _STRICTNESS[known.sharing]:
                wanted[place.cache_key(mount)] = mount
    taken: dict[CacheMountKey, Instance] = {}
    site = place.site
    with ExitStack() as waiting:
        is_waiting = False

        def wait(seconds: float) -> None:
            nonlocal is_waiting
            if not is_waiting:
                is_waiting = True
                waiting.enter_context(site.slots.lent())
            site.pause(seconds)

        for key in sorted(wanted, key=lambda key: key.name):
            mount = wanted[key]
            if place.vertex.no_cache:
                site.supplies.clear_once(key, wait)
            make = partial(make_cache, mount=mount, place=place)
            instance = site.store.cache_mounts.use(key, sharing=mount.sharing, make=make, wait=wait)
            stack.callback(instance.close)
            taken[key] = instance
    return taken


def make_cache(path: str, mount: CacheMount, place: Place) -> None:
    """Make a new directory for a cache mount at `path`: empty, or a copy of its source."""
    if mount.input is None:
        mode, uid, gid = mount.owner or (0o755, 0, 0)
        os.mkdir(path)
        ownership.give(path, uid, gid)
        os.chmod(path, mode & 0o7777)
        return
    chain = place.inputs[mount.input].chain
    with Tree(open_overlay(place.site.store.snapshots.view(chain))) as tree:
        match = place.stage_match(tree, mount.path)
        folder, name = os.path.split(path)
        copy_whole(tree.root, match, name, Target(folder))


def secret_value(id_: str, place: Place) -> bytes | None:
    """Return a secret's value, None where the build was given none. Raises InstructionError."""
    try:
        return place.site.supplies.secrets.value(id_)
    except BuildError as error:
        raise InstructionError(place.vertex.place, str(error), hint=error.hint) from error


def provide_secret(mount: SecretMount, place: Place, made: Provided) -> None:
    """Add a secret as file and variable; an absent one that is not required is left out."""
    vertex = place.vertex
    value = secret_value(mount.id, place)
    if value is None:
        if not mount.required:
            return
        raise InstructionError(
            vertex.place,
            f'secret "{mount.id}": not given',
            hint=f"give it: --secret id={mount.id},src=FILE (or env=NAME)",
        )
    made.secrets.append(value)
    if mount.target is not None:
        owner = (mount.mode & 0o7777, mount.uid, mount.gid)
        made.binds.append(FileMount(mount.target, value, *owner))
    if mount.variable is not None:
        if b"\0" in value:
            raise InstructionError(
                vertex.place, f'secret "{mount.id}": a variable cannot hold a zero byte'
            )
        made.env.append((mount.variable, os.fsdecode(value)))


def provide_agent(mount: SshMount, place: Place, made: Provided, stack: ExitStack) -> None:
    """Add an agent's socket; an absent one that is not required is left out."""
    site, vertex = place.site, place.vertex
    try:
        agents = site.supplies.agents
        upstream = None if agents is None else agents.socket_path(mount.id)
    except BuildError as error:
        raise InstructionError(vertex.place, str(error), hint=error.hint) from error
    if upstream is None:
        if not mount.required:
            return
        raise InstructionError(
            vertex.place,
            f'ssh agent "{mount.id}": not given',
            hint=f"give it: --ssh {mount.id} (your agent) or --ssh {mount.id}=SOCKET or =KEY",
        )
    from builder.sshagent import AgentSocket

    scratch = site.store.folder.scratch_directory()
    stack.callback(os.close, scratch.fd)
    stack.callback(site.store.folder.remove_tree, scratch.path)
    owner = (mount.mode, mount.uid, mount.gid)
    ours = stack.enter_context(AgentSocket(f"{scratch.path}/socket", upstream, owner))
    made.binds.append(Bind(ours.path, mount.target))


def agent_variable(op: RunOp) -> list[tuple[str, str]]:
    """Return SSH_AUTH_SOCK for a step that has agents, unless the Dockerfile sets it."""
    first = next((mount.target for mount in op.mounts if isinstance(mount, SshMount)), None)
    if first is None or any(name == "SSH_AUTH_SOCK" for name, _ in op.env):
        return []
    return [("SSH_AUTH_SOCK", first)]
