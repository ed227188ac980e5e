"""One open snapshot: a writable tree that is thrown away, kept, or committed into a layer.

Owns its locks and its end. Making and finding snapshots is `snapshots`' business.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from store.checkpoint import checkpoint
from store.digest import DiffID
from store.errors import InUse, StoreError, disk_errors
from store.folder import Folder, write_durably
from store.layerinfo import LayerInfo
from store.layers import LayerStore, note
from store.locks import acquire
from store.mount import OverlayMount
from values.classes import dataclass, field

if TYPE_CHECKING:
    from store.copied import Copied
    from store.diff import Watcher
    from store.filling import Filling
    from store.restream import Source

VERSION = 1

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


@dataclass(slots=True)
class Held:
    """What an open snapshot holds. folder_fd was opened before the first write to it.

    copied: how to know again what was copied, where it is a copy that was made just now.
    """

    lock_fd: int
    lease_fd: int
    folder_fd: int
    copied: "Copied | None" = None

    def close(self) -> None:
        """Let go of it all; a second time is fine."""
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
        held: Held,
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
