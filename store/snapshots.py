"""Snapshots: writable trees on top of a chain of layers, and what becomes of them.

A snapshot is thrown away, kept (a container's, a build step's: see `keptsteps`) or committed into a
layer. Describes mounts, never performs one.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from store import manner
from store.checkpoint import checkpoint
from store.digest import DiffID, is_digest
from store.errors import Corrupt, InUse, NewerFormat, NotFound, StoreError, disk_errors
from store.folder import Folder, claim_abandoned, names_in, write_durably
from store.layerinfo import LayerInfo
from store.layers import LayerStore, note
from store.locks import acquire
from store.mount import OverlayMount
from store.overlay import Merged
from store.stubs import EMPTY, STUBS, ensure
from values.classes import dataclass, field, replace

if TYPE_CHECKING:
    from store.copied import Copied
    from store.diff import Watcher
    from store.filling import Filling
    from store.restream import Source

VERSION = 1

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SURVIVOR_S = 2.0
_POLL_S = 0.002


@dataclass(frozen=True, slots=True)
class Plan:
    """What a snapshot was made with.

    above: kept snapshots between the chain and what is written, topmost first. note: what is to be
    known of a kept one, JSON values; empty of a container's. copied: its tree holds all of what it
    stands on.
    """

    chain: tuple[DiffID, ...]
    stubs: bool = False
    volatile: bool = False
    above: tuple[str, ...] = ()
    note: Mapping[str, object] = field(default_factory=dict)
    copied: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layer that is about to be stored. source: it as written, None when it is here already."""

    info: LayerInfo
    source: "Source | None"


class Snapshots:
    """The writable trees of one store.

    can_overlay: asked once, when a tree is first wanted, whether overlays can be mounted here.
    """

    def __init__(
        self, folder: Folder, layers: LayerStore, can_overlay: "Callable[[], bool] | None" = None
    ) -> None:
        self._folder = folder
        self._layers = layers
        self._can_overlay = can_overlay or (lambda: True)
        self._copies: bool | None = None
        self._copying = threading.Lock()
        self._views: dict[tuple[DiffID, ...], Active] = {}
        self._user_marks = manner.current().marks == "user"

    @property
    def are_copies(self) -> bool:
        """Whether trees are whole copies of their chains, for want of overlay mounts."""
        with self._copying:
            if self._copies is None:
                self._copies = not self._can_overlay()
            return self._copies

    def close(self) -> None:
        """Throw away the copies that views were."""
        with self._copying:
            views, self._views = self._views, {}
        for view in views.values():
            view.discard()

    def prepare(
        self,
        chain: Sequence[DiffID],
        *,
        stubs: bool = False,
        volatile: bool = False,
        above: Sequence[str] = (),
    ) -> "Active":
        """Make an empty writable tree on top of `chain` (base first, may be empty).

        stubs: with mount points below it all, for what runs processes. volatile: the mount may
        skip fsync; a commit makes everything durable anyway. above: kept snapshots, topmost first,
        whose files cover the chain's; it cannot be committed then. Raises NotFound, DiskFull.
        """
        name = self._folder.unique()
        path = self._folder.path("snapshots", name)
        with disk_errors("prepare snapshot", path), contextlib.ExitStack() as undo:
            lease_fd = acquire(self._folder.path("locks", "lease"), shared=True)
            undo.callback(os.close, lease_fd)
            plan = Plan(tuple(chain), stubs, volatile, tuple(above), copied=self.are_copies)
            mount = self._mount(name, plan)
            os.mkdir(path, 0o700)
            undo.callback(self._folder.remove_tree, path)
            lock_fd = acquire(f"{path}/lock")
            undo.callback(os.close, lock_fd)
            for part, mode in (("fs", 0o755), ("work", 0o700)):
                os.mkdir(f"{path}/{part}", mode)
                os.chmod(f"{path}/{part}", mode)
            held = _Held(lock_fd, lease_fd, os.open(path, _DIRECTORY))
            if plan.copied:
                held.copied = self._copy(f"{path}/fs", plan)
            undo.pop_all()
        return Active(self._folder, self._layers, mount, plan, held)

    def prepare_above(self, view: OverlayMount) -> "tuple[Active, OverlayMount]":
        """Make an empty writable tree above a read-only one of directories; return how to mount it.

        It can be thrown away only.
        """
        active = self.prepare(())
        if not self.are_copies:
            return active, replace(active.mount, lowers=view.lowers)
        from store.copied import copy_tree

        source = Merged([os.fsencode(os.path.join(view.base, lower)) for lower in view.lowers])
        try:
            copy_tree(source, os.fsencode(active.upper))
        except BaseException:
            active.discard()
            raise
        return active, active.mount

    def view(self, chain: Sequence[DiffID], *, stubs: bool = False) -> OverlayMount:
        """Describe what `chain` shows, read-only. Raises NotFound.

        The layers stay only as long as the caller holds a lease.
        """
        lowers = self._layers.lower_path(chain)
        if len(lowers) > 1 and self.are_copies:
            return self._view_of_copy(tuple(chain))
        stubs = stubs and not self.are_copies
        if stubs or not lowers:
            ensure(self._folder)
        return OverlayMount(
            self._folder.root,
            lowers or (EMPTY,),
            stubs=STUBS if stubs else None,
            user_marks=self._user_marks,
        )

    def reopen(self, name: str) -> "Active":
        """Open a kept snapshot again. Raises NotFound, InUse while it is open elsewhere."""
        path = self._folder.path("snapshots", name)
        plan = self._kept_plan(name)
        with disk_errors(f"open snapshot {name}", path), contextlib.ExitStack() as undo:
            lease_fd = acquire(self._folder.path("locks", "lease"), shared=True)
            undo.callback(os.close, lease_fd)
            lock_fd = acquire(f"{path}/lock", blocking=False)
            undo.callback(os.close, lock_fd)
            # Overlay refuses a work directory that a volatile mount did not leave in order.
            self._folder.remove_tree(f"{path}/work/work/incompat")
            self._folder.remove_tree(f"{path}/work/incompat")
            held = _Held(lock_fd, lease_fd, os.open(path, _DIRECTORY))
            undo.pop_all()
        return Active(self._folder, self._layers, self._mount(name, plan), plan, held, kept=True)

    def kept(self) -> list[str]:
        """Return the ids of kept snapshots, sorted."""
        root = self._folder.path("snapshots")
        return [name for name in names_in(root) if os.path.exists(f"{root}/{name}/kept")]

    def chain_of(self, name: str) -> tuple[DiffID, ...]:
        """Return the chain that a kept snapshot lies on. Raises NotFound, Corrupt."""
        return self._kept_plan(name).chain

    def note_of(self, name: str) -> Mapping[str, object]:
        """Return what is noted of a kept snapshot. Raises NotFound, Corrupt."""
        return self._kept_plan(name).note

    def files_of(self, name: str) -> str:
        """Return where a kept snapshot's own files lie, relative to the store's root."""
        return f"snapshots/{name}/fs"

    def claim(self, name: str) -> int:
        """Keep a kept snapshot from being removed until the descriptor is closed.

        Raises NotFound, InUse while it is open.
        """
        self._kept_plan(name)
        return acquire(self._folder.path("snapshots", name, "lock"), blocking=False)

    def is_open(self, name: str) -> bool:
        """Tell whether somebody works in a kept snapshot."""
        try:
            fd = self.claim(name)
        except InUse:
            return True
        except StoreError:
            return False
        os.close(fd)
        return False

    def remove(self, name: str, *, later: bool = True) -> int:
        """Delete a kept snapshot; absent is fine. Raises InUse while it is open.

        later: see `Folder.remove_tree`. Returns the bytes freed by now.
        """
        path = self._folder.path("snapshots", name)
        if not os.path.exists(path):
            return 0
        fd = claim_abandoned(f"{path}/lock")
        if fd is None and os.path.exists(f"{path}/lock"):
            raise InUse(f"remove snapshot {name}: it is in use")
        freed = self._folder.remove_tree(path, later=later)
        if fd is not None:
            os.close(fd)
        return freed

    def remove_held(self, name: str, lock_fd: int) -> None:
        """Delete a snapshot that this process prepared before an execve.

        lock_fd: its `Active.lock_fd`, which is closed.
        """
        try:
            self._folder.remove_tree(self._folder.path("snapshots", name), later=True)
        finally:
            os.close(lock_fd)

    def recover(self) -> list[str]:
        """Delete snapshots whose owners are gone and which are not kept; return their ids.

        Only inside an exclusive lease: then nobody is in the middle of making one.
        """
        root = self._folder.path("snapshots")
        removed = []
        for name in sorted(os.listdir(root)):
            if not os.path.exists(f"{root}/{name}/kept"):
                with contextlib.suppress(InUse):
                    self.remove(name)
                    removed.append(name)
        return removed

    def look(self, name: str, chain: Sequence[DiffID]) -> OverlayMount:
        """Describe what the snapshot `name` on `chain` shows, read-only, whoever has it open."""
        upper = self.files_of(name)
        if self.are_copies:
            return OverlayMount(self._folder.root, (upper,), user_marks=self._user_marks)
        below = self.view(chain, stubs=True)
        return replace(below, lowers=(upper, *below.lowers))

    def _copy(self, target: str, plan: Plan) -> "Copied":
        from store.copied import copy_tree

        return copy_tree(self.below(plan.chain, plan.above), os.fsencode(target))

    def below(self, chain: Sequence[DiffID], above: Sequence[str]) -> Merged:
        """Return what `chain` shows under kept snapshots, topmost first. Raises NotFound."""
        kept = self._uncovered(above)
        folders = [os.fsencode(self._folder.path(self.files_of(name))) for name in kept]
        if kept and self.is_whole(kept[-1]):
            return Merged(folders)
        return Merged([*folders, *self._layers.merged(chain).directories])

    def is_whole(self, name: str) -> bool:
        """Tell whether a kept snapshot has the files of all that it stands on. Raises NotFound."""
        return self._kept_plan(name).copied

    def _uncovered(self, above: Sequence[str]) -> Sequence[str]:
        """Return those kept snapshots that count: what is below a whole one does not."""
        whole = [index for index, name in enumerate(above) if self.is_whole(name)]
        return above[: whole[0] + 1] if whole else above

    def _view_of_copy(self, chain: tuple[DiffID, ...]) -> OverlayMount:
        """Describe a copy of `chain` that stays as long as this object is not closed."""
        with self._copying:
            known = self._views.get(chain)
        if known is None:
            made = self.prepare(chain)
            made.unlease()  # a copy needs no layer any more
            with self._copying:
                known = self._views.setdefault(chain, made)
            if known is not made:  # another thread was faster
                made.discard()
        assert known.mount.upper is not None
        return OverlayMount(self._folder.root, (known.mount.upper,))

    def _kept_plan(self, name: str) -> Plan:
        try:
            with open(self._folder.path("snapshots", name, "kept"), "rb", buffering=0) as file:
                value = json.loads(file.read())
            if value["version"] > VERSION:
                raise NewerFormat(
                    f"snapshot {name}: format {value['version']} is newer than {VERSION}"
                )
            chain = tuple(DiffID(diff_id) for diff_id in value["chain"])
            if not all(is_digest(diff_id) for diff_id in chain):
                raise Corrupt(f"snapshot {name}: its record names no layer")
            above, note = value.get("above", []), value.get("note", {})
            if not isinstance(above, list) or not isinstance(note, dict):
                raise Corrupt(f"snapshot {name}: its record is damaged")
            names, copied = tuple(map(str, above)), bool(value.get("copied"))
            return Plan(chain, value["stubs"], value["volatile"], names, note, copied)
        except FileNotFoundError as error:
            raise NotFound(f"snapshot {name}: there is none") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"snapshot {name}: its record is damaged") from error

    def _mount(self, name: str, plan: Plan) -> OverlayMount:
        upper = self.files_of(name)
        if plan.copied:
            return OverlayMount(self._folder.root, (), upper=upper, work=f"snapshots/{name}/work")
        if plan.stubs:
            ensure(self._folder)
        kept = self._uncovered(plan.above)
        chain = () if kept and self.is_whole(kept[-1]) else self._layers.lower_path(plan.chain)
        return OverlayMount(
            self._folder.root,
            (*map(self.files_of, kept), *chain),
            upper=upper,
            work=f"snapshots/{name}/work",
            stubs=STUBS if plan.stubs else None,
            volatile=plan.volatile,
            user_marks=self._user_marks,
        )


@dataclass(slots=True)
class _Held:
    """What an open snapshot holds. folder_fd was opened before the first write to it.

    copied: how to know again what was copied, where it is a copy that was made just now.
    """

    lock_fd: int
    lease_fd: int
    folder_fd: int
    copied: "Copied | None" = None

    def close(self) -> None:
        for fd in (self.lock_fd, self.folder_fd, self.lease_fd):
            if fd >= 0:
                os.close(fd)
        self.lock_fd = self.folder_fd = self.lease_fd = -1


class Active:
    """One open writable tree; thrown away on exit unless committed or kept.

    id: its name. mount: how to show it. upper: the absolute directory that takes the changes.
    warnings: after a commit, what a layer cannot hold and was left out.
    """

    def __init__(
        self,
        folder: Folder,
        layers: LayerStore,
        mount: OverlayMount,
        plan: Plan,
        held: _Held,
        *,
        kept: bool = False,
    ) -> None:
        assert mount.upper is not None
        self._folder = folder
        self._layers = layers
        self._plan = plan
        self._held = held
        self._kept = kept
        self._path = os.path.dirname(os.path.join(folder.root, mount.upper))
        self.id = os.path.basename(self._path)
        self.mount = mount
        self.upper = f"{self._path}/fs"
        self.warnings: tuple[str, ...] = ()

    @property
    def lock_fd(self) -> int:
        """The descriptor that holds the snapshot's lock.

        Whatever may write to the tree inherits it and keeps it until it is gone.
        """
        return self._held.lock_fd

    def __enter__(self) -> "Active":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._kept:
            self._held.close()
        else:
            self.discard()

    def keep(self, note: Mapping[str, object] | None = None) -> str:
        """Let the snapshot outlive this object, durably; return its id. note: see `Plan`."""
        self._check_open("keep")
        plan = self._plan
        value = {
            "version": VERSION,
            "chain": list(plan.chain),
            "stubs": plan.stubs,
            "volatile": plan.volatile,
            "above": list(plan.above),
            "note": dict(note or {}),
            "copied": plan.copied,
        }
        with disk_errors(f"keep snapshot {self.id}", self._path):
            write_durably(self._folder, f"{self._path}/kept", json.dumps(value).encode())
        checkpoint("snapshot-kept")
        self._kept = True
        return self.id

    def unlease(self) -> None:
        """Let garbage collection in while the snapshot is open.

        Only for one whose layers a container's record names: its lock keeps the snapshot itself.
        It cannot be committed afterwards.
        """
        self._check_open("unlease")
        if self._held.lease_fd >= 0:
            os.close(self._held.lease_fd)
            self._held.lease_fd = -1

    def discard(self, *, at_once: bool = False) -> None:
        """Throw the snapshot away; the caller has unmounted it. Again is fine.

        at_once: nothing of it is left in the trash when this returns.
        """
        if self._held.folder_fd < 0:
            return
        try:
            # Even the little that a commit leaves takes a disk with discard milliseconds.
            self._folder.remove_tree(self._path, later=not at_once)
        finally:
            self._held.close()

    def commit(
        self,
        *,
        instead: "Callable[[Candidate], DiffID | None] | None" = None,
        watcher: "Watcher | None" = None,
        filling: "Filling | None" = None,
    ) -> LayerInfo:
        """Make the changes a layer, durably, and end the snapshot; the caller has unmounted it.

        instead: told what would be stored; may name a stored layer that is just as good, and then
        nothing new is. watcher: is shown all of it; what it raises at the end goes to the caller,
        and nothing of the snapshot is left then. filling: what comes into an empty directory of
        the tree just while it is written; what that raises goes to the caller.
        Returns what is recorded of the layer that stands for the changes.
        Raises InUse while another process can still write to it, StoreError for what no layer can
        hold, DiskFull; then the snapshot is still there, to be discarded.
        """
        self._check_open("commit")
        if self._held.lease_fd < 0:
            raise StoreError(f"commit snapshot {self.id}: it was opened to garbage collection")
        if self._plan.copied and self._held.copied is None:
            raise StoreError(f"commit snapshot {self.id}: what it was copied from is not known")
        self._refuse_survivors()
        with disk_errors("commit layer", self._path):
            folder = f"{self._path}/layer"
            os.mkdir(folder, 0o700)
            if self._held.copied is not None:
                from store.copied import keep_changes

                below = self._layers.merged(self._plan.chain)
                keep_changes(os.fsencode(self.upper), below, self._held.copied)
            from store.layerwriter import write_upper

            below = self._layers.merged(self._plan.chain)
            written = write_upper(
                self.upper, below, folder, watcher, filling, of_copy=self._plan.copied
            )
            if watcher is not None:
                self._ask(watcher)
            record, summary = written.record, written.summary
            checkpoint("layer-hashed")
            is_new = not self._layers.has(record.info.diff_id)
            if is_new:
                note(folder, "whiteouts", summary.whiteouts)
                os.rename(self.upper, f"{folder}/fs")
            stored = instead(self._candidate(record.info, is_new)) if instead else None
            if stored is None:
                info = self._layers.adopt(folder, self._held.folder_fd, record).info
            else:
                info = self._layers.info(stored)
        self.warnings = tuple(summary.warnings)
        self._kept = False
        self.discard()
        return info

    def _ask(self, watcher: "Watcher") -> None:
        try:
            watcher.finish()
        except BaseException:
            self.discard(at_once=True)
            raise

    def _candidate(self, info: LayerInfo, is_new: bool) -> Candidate:
        from store.restream import Source

        return Candidate(info, Source(f"{self._path}/layer", "the new layer") if is_new else None)

    def _check_open(self, action: str) -> None:
        if self._held.folder_fd < 0:
            raise StoreError(f"{action} snapshot {self.id}: it has ended")

    def _refuse_survivors(self) -> None:
        """Raise InUse unless this process is the only one that holds the lock.

        A lock cannot be asked who shares it; so it is let go and taken anew, which fails as long
        as a child that inherited it lives. Our lease keeps recovery away meanwhile. The wait is
        for children between fork and exec, which hold copies of everything for a moment.
        """
        os.close(self._held.lock_fd)
        self._held.lock_fd = -1
        deadline = time.monotonic() + _SURVIVOR_S
        while True:
            try:
                self._held.lock_fd = acquire(f"{self._path}/lock", blocking=False)
            except InUse as error:
                if time.monotonic() > deadline:
                    raise InUse(
                        f"commit snapshot {self.id}: a process of the step is still there"
                    ) from error
                time.sleep(_POLL_S)
            else:
                return
