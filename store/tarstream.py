"""The bytes of a tar on their way to a digest, hashed while the next ones are read."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator

from store.digest import DiffID

_BATCH_BYTES = 1 << 18
_READ_BYTES = 1 << 20
_QUEUED = 4


class TarSink:
    """Takes the bytes of one tar in order; `finish` tells its digest.

    Big files are hashed by a thread (hashlib lets go of the interpreter's lock), small ones at
    once: handing them over would take longer, as the thread waits for the interpreter each time.
    Use it as a context manager: the thread ends with the block.
    """

    def __init__(self) -> None:
        import hashlib

        self._hash = hashlib.sha256()
        self._batch: list[bytes] = []
        self._batched = 0
        self._queue: deque[bytes | None] = deque()
        self._filled = threading.Semaphore(0)
        self._free = threading.Semaphore(_QUEUED)
        self._thread: threading.Thread | None = None
        self.size_bytes = 0

    def __enter__(self) -> "TarSink":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._batch.append(data)
        self._batched += len(data)
        self.size_bytes += len(data)
        if self._batched >= _BATCH_BYTES:
            if self._thread is None and len(data) < _BATCH_BYTES:
                self._update()
            else:
                self._pass_on()

    def _update(self) -> None:
        """Hash what there is, here and now; no thread has begun."""
        for data in self._batch:
            self._hash.update(data)
        self._batch.clear()
        self._batched = 0

    def copy(self, fd: int, size_bytes: int, seen: Callable[[bytes], None] | None = None) -> int:
        """Append `size_bytes` read from `fd`; return how many there were.

        seen: is shown them on the way, piece by piece.
        """
        left = size_bytes
        while left:
            data = os.read(fd, min(left, _READ_BYTES))
            if not data:
                break
            left -= len(data)
            if seen is not None:
                seen(data)
            self.write(data)
        return size_bytes - left

    def tee(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield `chunks` and write them on the way."""
        for chunk in chunks:
            self.write(chunk)
            yield chunk

    def finish(self) -> DiffID:
        """Return the digest of all that was written."""
        if self._thread is not None:
            self._pass_on()
            self._stop()
        else:
            self._update()
        return DiffID("sha256:" + self._hash.hexdigest())

    def _pass_on(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tar-digest", daemon=True)
            self._thread.start()
        self._free.acquire()
        batch = self._batch
        self._queue.append(batch[0] if len(batch) == 1 else b"".join(batch))
        self._batch.clear()
        self._batched = 0
        self._filled.release()

    def _run(self) -> None:
        while True:
            self._filled.acquire()
            data = self._queue.popleft()
            if data is None:
                return
            self._hash.update(data)
            self._free.release()

    def _stop(self) -> None:
        if self._thread is not None:
            self._queue.append(None)
            self._filled.release()
            self._thread.join()
            self._thread = None
