"""Layers that a build knows by name and does not have: brought when something needs their files.

A remote cache gives results, not bytes. What is never needed (it is not run on, not copied from,
and goes to a registry that has it) is never fetched. A layer that cannot be got is lost: the build
then looks for another way to make it.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from builder.errors import LayersLost
from store.digest import DiffID
from store.errors import StoreError
from store.layers import BlobRef
from store.root import Store
from values.classes import dataclass, field

_WORKERS = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an absent layer can be had.

    blob: the layer's bytes as they lie there. bring: puts the blob into the content store; raises
    StoreError and what the place's protocol raises. host, repository: for a registry, else empty.
    """

    blob: BlobRef
    bring: Callable[[], None]
    host: str = ""
    repository: str = ""


@dataclass(slots=True)
class Absent:
    """The layers of one build that may not be here. Used by several threads.

    errors: what may go wrong at the places that layers come from.
    """

    store: Store
    errors: tuple[type[Exception], ...] = ()
    _origins: dict[DiffID, list[Origin]] = field(default_factory=dict)
    _whole: dict[DiffID, Callable[[], None]] = field(default_factory=dict)
    _lost: set[DiffID] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def offer(self, diff_id: DiffID, origin: Origin) -> None:
        """Note a place that has a layer."""
        with self._lock:
            known = self._origins.setdefault(diff_id, [])
            places = [(one.blob.digest, one.host, one.repository) for one in known]
            if (origin.blob.digest, origin.host, origin.repository) not in places:
                known.append(origin)

    def offer_whole(self, diff_ids: Iterable[DiffID], pull: Callable[[], None]) -> None:
        """Note that `pull` brings all these layers, an image's, together."""
        with self._lock:
            self._whole.update(dict.fromkeys(diff_ids, pull))

    def origins(self, diff_id: DiffID) -> Sequence[Origin]:
        """Return the places that have a layer, the first to be asked first."""
        with self._lock:
            return tuple(self._origins.get(diff_id, ()))

    def is_usable(self, diff_ids: Iterable[DiffID]) -> bool:
        """Tell whether none of these layers has turned out to be lost."""
        with self._lock:
            return self._lost.isdisjoint(diff_ids)

    def give_up(self, diff_ids: Iterable[DiffID]) -> None:
        """Count layers as lost: results that need them are no results."""
        with self._lock:
            self._lost.update(diff_ids)

    def need(self, chain: Sequence[DiffID]) -> None:
        """Let all layers of a chain be in the store. Raises LayersLost, and what a pull raises."""
        has = self.store.layers.has
        if all(map(has, chain)):
            return
        for pull in {self._whole[d] for d in chain if d in self._whole and not has(d)}:
            pull()
        missing = [number for number, diff_id in enumerate(chain) if not has(diff_id)]
        # A layer may lean on those below it, so blobs come side by side, trees one after another.
        with ThreadPoolExecutor(_WORKERS) as pool:
            brought = {number: pool.submit(self._bring, chain[number]) for number in missing}
            for number in missing:
                blob = brought[number].result()
                self._unpack(chain[: number + 1], blob)

    def _bring(self, diff_id: DiffID) -> BlobRef:
        """Let a blob of a layer be in the content store. Raises LayersLost."""
        causes = []
        for origin in self.origins(diff_id):
            with self.store.lock(f"pull {diff_id}"):
                if self.store.content.has(origin.blob.digest):
                    return origin.blob
                cause = self._failure(origin)
                if cause is None:
                    return origin.blob
                causes.append(cause)
        raise LayersLost([diff_id], "; ".join(causes) or "no cache source has it")

    def _failure(self, origin: Origin) -> str | None:
        """Bring a blob; return why that failed, None when it did not."""
        try:
            origin.bring()
        except StoreError as error:
            return str(error)
        except self.errors as error:
            return str(error)
        return None

    def _unpack(self, chain: Sequence[DiffID], blob: BlobRef) -> None:
        diff_id = chain[-1]
        with self.store.lock(f"pull {diff_id}"):
            if self.store.layers.has(diff_id):
                return
            try:
                self.store.layers.unpack_blob(blob.digest, blob.media_type, diff_id, chain[:-1])
            except StoreError as error:
                raise LayersLost([diff_id], str(error)) from error

    def bring_blob(self, blob: BlobRef, diff_id: DiffID) -> bool:
        """Let a layer's blob, these very bytes, be in the content store; tell whether it is."""
        for origin in self.origins(diff_id):
            if self.store.content.has(blob.digest):
                return True
            if origin.blob.digest == blob.digest:
                self._failure(origin)
        return self.store.content.has(blob.digest)
