"""Snapshots: writable trees on top of a chain of layers, and what becomes of them.

A snapshot is thrown away, kept (a container's, a build step's: see `keptsteps`) or committed into a
layer: `activesnapshot` has what is open. Describes mounts, never performs one.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from store import manner
from store.activesnapshot import VERSION, Active, Held, Plan
from store.digest import DiffID, is_digest
from store.errors import Corrupt, InUse, NewerFormat, NotFound, StoreError, disk_errors
from store.folder import Folder, claim_abandoned, names_in
from store.layers import LayerStore
from store.locks import acquire
from store.mount import OverlayMount
from store.overlay import Merged
from store.stubs import EMPTY, STUBS, ensure
from values.classes import replace

if TYPE_CHECKING:
    from store.copied import Copied

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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
    ) -> Active:
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
            held = Held(lock_fd, lease_fd, os.open(path, _DIRECTORY))
            if plan.copied:
                held.copied = self._copy(f"{path}/fs", plan)
            undo.pop_all()
        return Active(self._folder, self._layers, mount, plan, held)

    def prepare_above(self, view: OverlayMount) -> tuple[Active, OverlayMount]:
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

    def reopen(self, name: str) -> Active:
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
            held = Held(lock_fd, lease_fd, os.open(path, _DIRECTORY))
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
