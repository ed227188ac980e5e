"""Adding a build's records to remote caches: what is there stays, what is new comes beside it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from builder.absent import Absent, Origin
from builder.cachekey import SECRETS
from builder.errors import BuildError
from builder.events import BuildWarning
from builder.remotecache.entry import CacheEntry, memo_key, shortened
from builder.remotecache.laststeps import note_name, note_of
from builder.remotecache.ledger import Ledger
from builder.remotecache.places import compression_of, mode_of
from builder.remotecache.source import CacheFailed, CacheTarget
from builder.request import CachePlace
from builder.site import Progress
from builder.vertex import LinkOp, Vertex, VertexID
from store.buildrecords import BuildRecord
from store.digest import DiffID, Digest
from store.errors import StoreError
from store.layers import BlobRef
from store.manifests import Compression, layer_blob
from store.root import Store
from values.classes import dataclass, replace

_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Solved:
    """What a build did.

    roots: the vertices of its images. dockerfile: its name. ignored: what its ignore file says.
    """

    vertices: Mapping[VertexID, Vertex]
    roots: Sequence[VertexID]
    ledger: Ledger
    dockerfile: str = "Dockerfile"
    ignored: Sequence[str] | None = None

    def entries(self) -> Iterator[tuple[VertexID, CacheEntry]]:
        """Yield the record of every step whose layer is true to what its process made."""
        for name, record in self.ledger.records.items():
            # A layer that a machine could not hold as it was is nobody else's, nor is a key with
            # what only this machine makes of a secret.
            known = record.ingredients
            if known.get("fidelity") == "full" and SECRETS not in known:
                yield VertexID(name), entry_of(record)

    def memos(self) -> Iterator[CacheEntry]:
        """Yield what selections of files were found to hold."""
        for (namespace, selector), value in self.ledger.memos.items():
            key = memo_key(namespace, selector)
            yield CacheEntry(key, namespace, value=shortened(value))

    def all(self) -> Iterator[CacheEntry]:
        """Yield all records and memos, without bytes."""
        yield from (entry for _, entry in self.entries())
        yield from self.memos()

    def of_images(self) -> set[VertexID]:
        """Return the vertices whose layers are the images' own."""
        found: set[VertexID] = set()
        waiting = list(self.roots)
        while waiting:
            vertex = self.vertices[waiting.pop()]
            found.add(vertex.id)
            waiting += vertex.inputs if isinstance(vertex.op, LinkOp) else vertex.inputs[:1]
        return found


def entry_of(record: BuildRecord) -> CacheEntry:
    """Return a record of the store as one of a remote cache, without bytes."""
    return CacheEntry(
        record.key,
        record.kind,
        record.diff_ids,
        created=record.created,
        started_ns=record.started_ns,
        ended_ns=record.ended_ns,
        title=record.title,
    )


@dataclass(slots=True)
class Export:
    """One export to one target."""

    store: Store
    absent: Absent
    target: CacheTarget
    place: CachePlace

    def run(self, solved: Solved) -> int:
        """Add what the target lacks; return how many records that were.

        Raises what the target raises, StoreError, CacheFailed.
        """
        with_bytes = None if mode_of(self.place) == "max" else solved.of_images()
        wanted = list(solved.memos())
        for name, entry in solved.entries():
            if with_bytes is None or name in with_bytes:
                entry = replace(entry, blobs=tuple(map(_planned, entry.diff_ids)))
            wanted.append(entry)
        with ThreadPoolExecutor(_WORKERS) as pool:
            added = [entry for entry in pool.map(self._lacking, wanted) if entry is not None]
        self.target.add(added)
        # What a stage outside of the images was given stays here, unless its bytes go too.
        told = [v for v in solved.vertices.values() if with_bytes is None or v.id in with_bytes]
        note = note_of(solved.ledger.records, told, solved.ignored)
        self.target.put_note(note_name(solved.dockerfile), note)
        return len(added)

    def _lacking(self, entry: CacheEntry) -> CacheEntry | None:
        """Return a record with its blobs sent, None for one that the target has."""
        if self.target.has(entry):
            return None
        return (
            replace(entry, blobs=tuple(map(self._sent, entry.diff_ids))) if entry.blobs else entry
        )

    @property
    def _compression(self) -> Compression:
        return compression_of(self.place)

    def _sent(self, diff_id: DiffID) -> BlobRef:
        """Let a layer's blob be at the target and return it."""
        origin = next(iter(self.absent.origins(diff_id)), None)
        if self.store.layers.has(diff_id) or self._compression.force:
            self.absent.need([diff_id])
            blob = layer_blob(self.store, diff_id, self._compression)
            bring = _nothing
        elif origin is not None:
            blob = origin.blob
            bring = partial(self._bring, origin, diff_id)
        else:
            raise CacheFailed(f"layer {diff_id} is not here any more")
        self.target.send(blob, origin if origin and origin.blob == blob else None, bring)
        return blob

    def _bring(self, origin: Origin, diff_id: DiffID) -> None:
        if not self.absent.bring_blob(origin.blob, diff_id):
            raise CacheFailed(f"blob {origin.blob.digest} cannot be had")


def _planned(diff_id: DiffID) -> BlobRef:
    """Return what stands for a layer's bytes until they are there."""
    return BlobRef(Digest(diff_id), 0, "")


def _nothing() -> None:
    """A blob that is here needs no bringing."""


def warn(progress: Progress, text: str) -> None:
    """Warn of a cache that does not do what it should."""
    progress.emit(BuildWarning("RemoteCache", text, None))


def export_all(
    exports: Iterable[Export],
    solved: Solved,
    progress: Progress,
    errors: tuple[type[Exception], ...],
) -> None:
    """Export to every target; one that fails is reported, and fails the build where that is asked.

    Raises BuildError.
    """
    for export in exports:
        step = progress.begin(f"exporting cache to {export.target.name}")
        failures = (StoreError, CacheFailed, BuildError, *errors)
        try:
            count = export.run(solved)
        except Exception as error:
            is_asked = not export.place.is_on("ignore-error", default=True)
            if is_asked or not isinstance(error, failures):
                step.failed(error)
            if not isinstance(error, failures):
                raise
            if is_asked:
                raise BuildError(f"export cache to {export.target.name}: {error}") from error
            step.message(f"not exported: {error}")
            warn(progress, f"the cache was not exported to {export.target.name}: {error}")
        else:
            step.message(f"{count} new records")
        step.done()
