"""Early cutoff: a step that ran again and made the same takes the layer that it made before.

Then the layer, and so the key of everything after it, is what it was: nothing after it runs, and
the image is the same image. Owns which recorded layers may stand for a new one: those that the
same instruction made on the same parent, from other files or secrets, and which are equal in
everything. Only the moment of the run is no difference: a file's time inside the run's own window
reads as "now". Every other time counts, or `touch -d` would lose its meaning.
"""

import json
from collections.abc import Iterator, Sequence

from builder.cachekey import KEY_SCHEMA
from builder.vertex import RunOp, canonical_digest
from store.activesnapshot import Candidate
from store.buildrecords import BuildRecord
from store.digest import DiffID, Digest
from store.errors import BadArchive, Corrupt, NotFound
from store.root import Store
from values.classes import dataclass, field, replace

_MEMO = "instruction"
_KEPT_KEYS = 8
_SECOND_NS = 1_000_000_000
_TICK_NS = 20_000_000  # the kernel stamps files with a clock that is up to a tick behind


@dataclass(frozen=True, slots=True)
class Window:
    """When a step ran (ns since the epoch)."""

    started_ns: int
    ended_ns: int

    def holds(self, mtime_ns: int) -> bool:
        """Tell whether a layer's file time can be the moment of writing: it is in whole seconds."""
        first_ns = (self.started_ns - _TICK_NS) // _SECOND_NS * _SECOND_NS
        return first_ns <= mtime_ns <= self.ended_ns


def instruction_of(op: RunOp, parent: Sequence[DiffID]) -> Digest:
    """Return what names an instruction on its parent, whatever its mounts show it."""
    kept = replace(op.sandbox, cgroup_parent="")
    op = replace(op, proxy_env=(), sandbox=kept, network=op.keyed_network)
    return canonical_digest([KEY_SCHEMA, list(parent), op])


def remember(store: Store, instruction: Digest, key: Digest) -> None:
    """Note that an instruction ran with cache key `key`."""
    keys = [key, *(known for known in _keys(store, instruction) if known != key)]
    store.records.remember(_MEMO, instruction, json.dumps(keys[:_KEPT_KEYS]))


def _keys(store: Store, instruction: Digest) -> list[Digest]:
    try:
        known = json.loads(store.records.recall(_MEMO, instruction) or "[]")
    except ValueError:
        return []
    return [Digest(str(key)) for key in known] if isinstance(known, list) else []


@dataclass(slots=True)
class Adoption:
    """The search of one run for a layer to adopt; `found` is the record of the one it took."""

    store: Store
    instruction: Digest
    window: Window
    found: BuildRecord | None = field(default=None, init=False)

    def choose(self, candidate: Candidate) -> DiffID | None:
        """Return the stored layer that stands for `candidate`, None when there is none."""
        records = list(self._records())
        equal = [record for record in records if self._is(record, candidate)]
        self.found = next((r for r in equal or records if self._fits(r, candidate)), None)
        return self.found.diff_ids[0] if self.found else None

    def _records(self) -> Iterator[BuildRecord]:
        """Yield the instruction's results whose layer is here, those of the newest run first."""
        seen: set[DiffID] = set()
        for key in _keys(self.store, self.instruction):
            for record in self.store.records.lookup(key):
                (*_, diff_id) = record.diff_ids
                if diff_id not in seen and self.store.layers.has(diff_id):
                    seen.add(diff_id)
                    yield record

    def _is(self, record: BuildRecord, candidate: Candidate) -> bool:
        return record.diff_ids == (candidate.info.diff_id,)

    def _fits(self, record: BuildRecord, candidate: Candidate) -> bool:
        if self._is(record, candidate):
            return True
        # It needs the decompressor, which a build that is cached does without.
        from store.layerlikeness import alike

        layers, old, new = self.store.layers, record.diff_ids[0], candidate.info
        before = Window(record.started_ns, record.ended_ns)

        def both_now(new_ns: int, old_ns: int) -> bool:
            return self.window.holds(new_ns) and before.holds(old_ns)

        try:
            known = layers.info(old)
            if (known.size_bytes, known.files) != (new.size_bytes, new.files):
                return False
            source = candidate.source or layers.source(new.diff_id)
            return alike(source, layers.source(old), both_now)
        except (NotFound, Corrupt, BadArchive):
            return False  # removed or damaged: nothing to adopt
