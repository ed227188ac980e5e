"""What is kept of builds' steps: what a failed one wrote, and what was changed inside since.

Each is a kept snapshot whose note says of which build and step it is, so that nothing is kept that
nobody can name: not even after a kill, since the note is what makes a snapshot a kept one. They go
with their build. Refuses to know how a step is entered.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from store.digest import DiffID
from store.errors import InUse, StoreError
from store.root import Store
from values.classes import dataclass

# What a snapshot is to its step: what its process wrote, there and in mounts, or who entered it.
FAILED, MOUNT, ENTERED = "failed", "mount", "entered"
_ORDER = (ENTERED, FAILED, MOUNT)  # in which they go: nothing before what stands on it


@dataclass(frozen=True, slots=True)
class KeptStep:
    """One kept snapshot of a build's step.

    number: of the step in the journal. name: as progress shows it. note: all that is noted.
    """

    snapshot: str
    build_id: str
    number: int
    role: str
    name: str
    note: Mapping[str, object]


def note_of(
    build_id: str,
    number: int,
    role: str,
    name: str,
    layers: Collection[str] = (),
    **more: object,
) -> dict[str, object]:
    """Return the note of a snapshot to be kept. layers: that it needs beside its own chain."""
    head = {"build": build_id, "step": number, "role": role, "name": name}
    return {**head, "layers": sorted(set(layers)), **more}


def kept_steps(store: Store, build_id: str | None = None) -> list[KeptStep]:
    """Return what is kept of steps, of one build or of all, in the order in which it may go.

    What cannot be read is left out: `check` tells of it.
    """
    found = []
    for snapshot in store.snapshots.kept():
        with suppress(StoreError, KeyError, TypeError, ValueError):
            note = store.snapshots.note_of(snapshot)
            own, others = str(note.get("build")), note.get("also", [])
            # A step that several builds share is found by each; it goes with the one that ran it.
            shared = build_id is not None and isinstance(others, list) and build_id in others
            if note and (build_id in (None, own) or shared):
                head = build_id or own, int(str(note["step"])), str(note["role"])
                found.append(KeptStep(snapshot, *head, str(note["name"]), note))
    return sorted(found, key=lambda step: (step.build_id, _ORDER.index(step.role), step.snapshot))


def layers_of(store: Store, snapshot: str) -> set[DiffID]:
    """Return the layers that a kept snapshot needs. Raises NotFound, Corrupt."""
    more = store.snapshots.note_of(snapshot).get("layers", [])
    named = map(DiffID, map(str, more)) if isinstance(more, list) else ()
    return {*store.snapshots.chain_of(snapshot), *named}


def remove(store: Store, build_ids: Collection[str]) -> int:
    """Delete what is kept of builds, and return the bytes. Raises InUse while someone is inside."""
    gone = [step for step in kept_steps(store) if step.build_id in build_ids]
    return sum(store.snapshots.remove(step.snapshot, later=False) for step in gone)


def in_use(store: Store, build_ids: Collection[str]) -> KeptStep | None:
    """Return what someone is inside of, of the steps of builds."""
    kept = (step for step in kept_steps(store) if step.build_id in build_ids)
    return next((step for step in kept if store.snapshots.is_open(step.snapshot)), None)


def remove_unused(store: Store, steps: Iterable[KeptStep]) -> int:
    """Delete what is kept of steps but for what is in use; return the bytes."""
    freed = 0
    for step in steps:
        with suppress(InUse):
            freed += store.snapshots.remove(step.snapshot, later=False)
    return freed
