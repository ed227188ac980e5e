"""Job slots: how many steps of a build may be at work at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Slots:
    """A number of slots. A step has one while it works, and lends it while it only waits.

    on_free: called when a step lends its slot, from that step's thread.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._changed = threading.Condition()
        self.on_free: Callable[[], None] = lambda: None

    def try_take(self) -> bool:
        """Take a slot if one is free."""
        with self._changed:
            if self._free < 1:
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        """Return a slot that was taken."""
        with self._changed:
            self._free += 1
            self._changed.notify()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let others have the caller's slot inside the block; it ends when one is free again.

        After an exception it ends at once: the step will not work any more.
        """
        self.give_back()
        self.on_free()
        try:
            yield
        except BaseException:
            with self._changed:
                self._free -= 1
            raise
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0)
            self._free -= 1
