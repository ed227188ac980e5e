"""What Ctrl-C, SIGTERM and Ctrl-Z do to a build.

Signals that stop it are read from a pipe, in a thread of its own: the kernel gives them to any
thread, and the handlers of Python wait until the main thread, which may hang in a lock, goes on.
"""

from __future__ import annotations

import _thread
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.cli.display import Display
    from runtime.cancel import Cancel

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupted(cancel: Cancel, display: Display) -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM stop a build, and Ctrl-Z leave its display; yields what came."""
    with _suspending(display), _stopping(cancel.set, display.abandon) as stopped_by:
        yield stopped_by


@contextmanager
def _stopping(stop: Callable[[], object], abandon: Callable[[], object]) -> Iterator[list[int]]:
    """Call `stop` at the first SIGINT or SIGTERM; at the second one end this process at once.

    What still runs then dies with it: containers watch their caller, and the store takes a kill at
    any moment. Yields the list of signals that came.
    """
    came: list[int] = []

    def take(number: int) -> None:
        came.append(number)
        if len(came) > 1:
            abandon()
            os._exit(128 + came[0])
        stop()

    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write, False)
    # A handler there must be, or the interpreter would not write the number down.
    before = {number: signal.signal(number, lambda *_: None) for number in _STOPPING}
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _thread.start_new_thread(_watch, (read, take))  # threading's would be waited for
    try:
        yield came
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        signal.set_wakeup_fd(wakeup)
        os.close(write)  # the end of the watcher


def _watch(fd: int, take: Callable[[int], None]) -> None:
    """Pass on the numbers of signals as they come, until the other end is closed."""
    with open(fd, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] in _STOPPING:
                take(number[0])


@contextmanager
def _suspending(display: Display) -> Iterator[None]:
    """Leave a usable terminal to the shell at Ctrl-Z, and go on drawing afterwards."""

    def stop() -> None:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # here it rests until SIGCONT
        signal.signal(signal.SIGTSTP, handler)

    def handler(_number: int, _frame: FrameType | None) -> None:
        display.suspend(stop)

    before = signal.getsignal(signal.SIGTSTP)
    if before is signal.SIG_DFL:  # a shell without job control ignores it
        signal.signal(signal.SIGTSTP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)
