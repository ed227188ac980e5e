"""The progress of a transfer as one stream of typed events.

Events of one transfer come from several threads, one at a time.
"""

import threading
from collections.abc import Callable
from enum import Enum

from store.digest import Digest
from values.classes import dataclass, field


class Outcome(Enum):
    """How a blob got to where it had to be."""

    PULLED = "pulled"
    PUSHED = "pushed"
    MOUNTED = "mounted"  # the registry took it from another of its repositories
    EXISTS = "exists"  # it was there already


@dataclass(frozen=True, slots=True)
class BlobFound:
    """A layer is part of the transfer. size_bytes: of the blob; 0 where not known yet."""

    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BlobMoved:
    """So many of a blob's bytes have come or gone; it may be less than before, after a retry."""

    digest: Digest
    done_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BlobDone:
    """A layer is where it had to be: unpacked here, or at the registry.

    source: the repository it was mounted from.
    """

    digest: Digest
    outcome: Outcome
    source: str = ""


@dataclass(frozen=True, slots=True)
class Retrying:
    """A failure that may pass is waited out. cause: the error, one line."""

    cause: str


Event = BlobFound | BlobMoved | BlobDone | Retrying
OnEvent = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Take an event and do nothing: for transfers that nobody watches."""


@dataclass(slots=True)
class Emitter:
    """Passes events on, one at a time."""

    on_event: OnEvent
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        with self._lock:
            self.on_event(event)
