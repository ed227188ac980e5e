"""Being small during a long wait: an interpreter that holds nothing but what it waits for.

A process that only waits becomes, by execve, a bare interpreter with this module alone. When
something happens, that one imports what the process was, and hands it what it knew. Pid, parent,
children, descriptors, locks and signals that arrive meanwhile are those of the same process.
"""

import _signal  # type: ignore[import-not-found]  # `signal` takes 1 MB
import marshal
import posix
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# Shorter waits are not worth the 15 ms of becoming another and coming back.
IDLE_S = 3.0

_HOUSE = __file__.rpartition("/runtime/")[0]
_CODE = (
    "import sys;sys.path.append(sys.argv[1]);"
    "from runtime.launch.dormant import main;main(int(sys.argv[2]))"
)


def become(  # noqa: PLR0913  what a process is, once
    image: str,
    role: str,
    state: "tuple[Any, ...]",
    *,
    awaited: "tuple[int, ...]",
    kept: "Iterable[int]",
    signals: "Iterable[int]" = (),
    words: "Iterable[str]" = (),
) -> None:
    """Become dormant; return only where that cannot be, with everything as it was.

    image: path of the interpreter's file. role: the module whose `resume(state, numbers)` goes on,
    with the signals that came blocked still; numbers: those that did come. state: values that
    marshal takes. awaited: descriptors of which one becomes readable. kept: more that stay open.
    signals: those that wake, too. words: what `ps` shows behind our own.
    Only for a process of a single thread.
    """
    descriptors = [*awaited, *kept]
    numbers = [*signals]
    note = posix.memfd_create("dormant", 0)
    try:
        posix.write(note, marshal.dumps((role, state, awaited, descriptors, numbers)))
        base: str = getattr(sys, "_base_executable", "") or sys.executable
        argv = [base, "-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _CODE]
        # Until there is a handler again, a signal would end the process.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, numbers)
        try:
            for fd in descriptors:
                posix.set_inheritable(fd, True)
            posix.execv(image, [*argv, _HOUSE, str(note), *words])
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    except (OSError, ValueError):  # no memory, or a state that cannot be written down
        for fd in descriptors:
            posix.set_inheritable(fd, False)
    finally:
        posix.close(note)


def main(note: int) -> None:
    """Wait, then be what the process was before."""
    size = posix.fstat(note).st_size
    role, state, awaited, descriptors, signals = marshal.loads(posix.pread(note, size, 0))
    posix.close(note)
    for fd in descriptors:
        if fd > 2:
            posix.set_inheritable(fd, False)
    numbers = _wait(awaited, signals)
    module = __import__(role, fromlist=["resume"])
    module.resume(state, numbers)


def _wait(awaited: "tuple[int, ...]", signals: "list[int]") -> "list[int]":
    """Return the signals that came, when one did or a descriptor is readable; they are blocked."""
    read, write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    for number in signals:
        _signal.signal(number, lambda _number, _frame: None)
    _signal.set_wakeup_fd(write)
    poller = select.poll()
    for fd in (read, *awaited):
        poller.register(fd, select.POLLIN)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, signals)
    poller.poll()
    _signal.pthread_sigmask(_signal.SIG_BLOCK, signals)
    _signal.set_wakeup_fd(-1)
    posix.close(write)
    numbers: list[int] = []
    while data := posix.read(read, 64):
        numbers += data
    posix.close(read)
    return [number for number in numbers if number in signals]
