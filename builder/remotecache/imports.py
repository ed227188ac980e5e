"""Looking results up in remote caches: several sources in order, one request a key and source.

What is found is believed as far as names go; bytes are verified when they come. A source that fails
is left alone for the rest of the build, and the build does without.
"""

import threading
from collections.abc import Callable, Sequence

from builder.absent import Absent
from builder.cache import Key
from builder.remotecache.entry import CacheEntry, memo_key
from builder.remotecache.laststeps import LastSteps, note_name, read_note
from builder.remotecache.source import CacheFailed, CacheSource
from store.buildrecords import BuildRecord
from store.digest import Digest
from store.errors import StoreError
from values.classes import dataclass, field


@dataclass(slots=True)
class Imports:
    """The sources of one build. Used by several threads.

    errors: what sources may raise. warn: takes a line about a source that fails.
    """

    sources: Sequence[CacheSource]
    absent: Absent
    warn: Callable[[str], None]
    errors: tuple[type[Exception], ...] = ()
    _failed: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look_up(self, key: Key) -> tuple[BuildRecord, str] | None:
        """Return a usable result of a key and the name of its source; None is a miss."""
        for source in self.sources:
            entries = self._find(source, key.digest)
            usable = [
                entry
                for entry in entries
                if entry.diff_ids and self.absent.is_usable(entry.diff_ids)
            ]
            if not usable:
                continue
            # All who meet several results take the same: with bytes, and then the first made.
            chosen = min(usable, key=lambda entry: (not entry.blobs, entry.started_ns, entry.name))
            for entry in usable:
                for diff_id, blob in zip(entry.diff_ids, entry.blobs, strict=False):
                    self.absent.offer(diff_id, source.origin(blob))
            return _record(chosen, key), source.name
        return None

    def recall(self, namespace: str, selector: str) -> str | None:
        """Return what a memo says, None where no source has it."""
        key = memo_key(namespace, selector)
        for source in self.sources:
            for entry in self._find(source, key):
                if entry.kind == namespace and entry.value:
                    return entry.value
        return None

    def last_steps(self, dockerfile: str) -> LastSteps | None:
        """Return the steps of the last exported build of a Dockerfile, None where nobody knows."""
        for source in self.sources:
            if source.name in self._failed:
                continue
            data = self._asked(source, note_name(dockerfile))
            found = read_note(data) if data is not None else None
            if found is not None:
                return found
        return None

    def _asked(self, source: CacheSource, name: str) -> bytes | None:
        try:
            return source.note(name)
        except (StoreError, CacheFailed) as error:
            self._give_up(source, error)
        except self.errors as error:
            self._give_up(source, error)
        return None

    def _find(self, source: CacheSource, key: Digest) -> Sequence[CacheEntry]:
        if source.name in self._failed:
            return ()
        try:
            return source.find(key)
        except (StoreError, CacheFailed) as error:
            self._give_up(source, error)
        except self.errors as error:
            self._give_up(source, error)
        return ()

    def _give_up(self, source: CacheSource, error: Exception) -> None:
        with self._lock:
            if source.name in self._failed:
                return
            self._failed.add(source.name)
        self.warn(f"the cache at {source.name} is not used any more: {error}")


def _record(entry: CacheEntry, key: Key) -> BuildRecord:
    return BuildRecord(
        key=key.digest,
        diff_ids=entry.diff_ids,
        created=entry.created,
        kind=entry.kind,
        title=entry.title,
        ingredients=key.ingredients,
        started_ns=entry.started_ns,
        ended_ns=entry.ended_ns,
    )
