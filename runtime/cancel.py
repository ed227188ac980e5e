"""A switch that ends containers from another thread or a signal handler."""

import os
import threading


class Cancel:
    """A switch, once set for good, that kills containers; may be set from any thread.

    fd: becomes readable when it is set.
    """

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC)
        # Reentrant: a signal handler may set it while `set` runs in the same thread.
        self._lock = threading.RLock()
        self._set = False

    def set(self) -> None:
        """Kill every container that was started with this switch."""
        with self._lock:
            if not self._set:
                self._set = True
                os.close(self._write)  # the other end reads as ended from now on

    def is_set(self) -> bool:
        """Tell whether `set` was called."""
        return self._set

    def close(self) -> None:
        """Give the descriptors back."""
        self.set()
        with self._lock:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1

    def __enter__(self) -> "Cancel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
