"""Several threads at one transfer: the first failure stops all of them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from registry_client.errors import TransferStopped
from values.classes import dataclass, field

_GRACE_S = 3.0


@dataclass(slots=True)
class Crew:
    """Runs tasks in threads. A task calls `check` now and then."""

    workers: int
    _stop: threading.Event = field(default_factory=threading.Event)
    _failures: deque[BaseException] = field(default_factory=deque)

    def check(self) -> None:
        """Raise TransferStopped when another task has failed."""
        if self._stop.is_set():
            raise TransferStopped("stopped: another part of the transfer failed")

    def run(self, tasks: Iterable[Callable[[], object]]) -> None:
        """Run all tasks and return when they have ended; raise the first failure."""
        waiting = deque(tasks)
        count = min(self.workers, len(waiting))
        # Daemons: one that hangs on a silent server must not keep the program from ending.
        threads = [
            threading.Thread(target=self._work, args=(waiting,), name="transfer", daemon=True)
            for _ in range(count)
        ]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads) and not self._failures:
                for thread in threads:
                    thread.join(0.1)
        except BaseException:
            self._stop.set()
            raise
        finally:
            if any(thread.is_alive() for thread in threads):
                self._stop.set()
                self._wait_for(threads)
        for failure in self._failures:
            if not isinstance(failure, TransferStopped):
                raise failure

    def _work(self, waiting: deque[Callable[[], object]]) -> None:
        try:
            while not self._stop.is_set():
                try:
                    task = waiting.popleft()
                except IndexError:
                    return
                task()
        except BaseException as failure:
            self._failures.append(failure)
            self._stop.set()

    def _wait_for(self, threads: list[threading.Thread]) -> None:
        deadline = time.monotonic() + _GRACE_S
        for thread in threads:
            if thread.is_alive():  # an interrupt may come before the last of them is started
                thread.join(max(0.0, deadline - time.monotonic()))
