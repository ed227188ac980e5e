"""Staying with a process of a container: its terminal on ours, our signals to it, its end.

What terminals need is imported where there is one: it takes as long as the rest.
"""

import os
import select
from _signal import signal as set_handler  # type: ignore[import-not-found, unused-ignore]

from runtime.launch.tolerate import tolerate
from runtime.linux.process import pidfd_send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.creating import Wish
    from runtime.notify import Listener
    from runtime.terminal import Terminal

# HUP INT QUIT USR1 USR2 ALRM TERM CONT: what docker passes on, short of what is our own.
_FORWARDED = (1, 2, 3, 10, 12, 14, 15, 18)
_SIGWINCH = 28


def socket_pair() -> "tuple[int, int]":
    """Return two connected unix sockets, for a terminal to be passed."""
    import _socket

    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    return ours.detach(), theirs.detach()


class Stay:
    """What a caller does who stays with a process that he started.

    theirs: the socket over which a terminal may be sent to us; -1 where somebody else gets it.
    listener: takes notifications of the process for systemd.
    """

    def __init__(self, wish: "Wish | None" = None, *, tty: bool = True) -> None:
        """wish: told where to send the terminal."""
        self._pidfd = self._ours = self.theirs = -1
        self._pid = 0
        self.listener: Listener | None = None
        if tty and not (wish and wish.console_socket):
            self._ours, self.theirs = socket_pair()
        if wish is not None:
            wish.own_terminal = self.theirs
        self._terminal: Terminal | None = None
        self._poller = select.poll()

    def attach(self, pidfd: int, *, tty: bool, pid: int = 0) -> None:
        """Pass our signals on to the process `pidfd` from now on; with `tty` our terminal too."""
        self._pidfd, self._pid = pidfd, pid
        if tty and self._ours >= 0:
            self._take_terminal()
        for fd in (self._ours, self.theirs):
            if fd >= 0:
                os.close(fd)
        for number in _FORWARDED:
            set_handler(number, lambda number, _frame: self._forward(number))
        if self._terminal is not None:
            set_handler(_SIGWINCH, lambda _number, _frame: self._resized())

    def _take_terminal(self) -> None:
        from runtime import terminal
        from runtime.launch.channel import receive_descriptors

        passed = receive_descriptors(self._ours)
        if passed:
            self._terminal = terminal.Terminal(passed[0], self._poller)
            self._raw = terminal.raw_mode(0)
            self._raw.__enter__()

    def _forward(self, number: int) -> None:
        with tolerate(ProcessLookupError):  # it has just ended
            pidfd_send_signal(self._pidfd, number)

    def _resized(self) -> None:
        from runtime import terminal

        if self._terminal is not None and any(terminal.size(0)):
            self._terminal.resize(*terminal.size(0))

    def to_the_end(self) -> None:
        """Return when the process is dead, and what it wrote to its terminal is written."""
        self._poller.register(self._pidfd, select.POLLIN)
        if self.listener is not None:
            self._poller.register(self.listener.fd, select.POLLIN)
        if self._terminal is None:
            while self._pidfd not in self._wait():
                pass
            return
        self._poller.register(self._terminal.master, select.POLLIN)
        self._poller.register(0, select.POLLIN)
        self._resized()
        try:
            while self._pass_on(self._terminal):
                pass
        finally:
            self._raw.__exit__(None, None, None)
        self._terminal.close()

    def _wait(self) -> "dict[int, int]":
        """Return the descriptors that have something for us, once there are any."""
        ready = dict(self._poller.poll())
        listener = self.listener
        if listener is not None and listener.fd in ready and listener.take(self._pid):
            self._poller.unregister(listener.fd)
            listener.close()
            self.listener = None
        return ready

    def _pass_on(self, passage: "Terminal") -> bool:
        ready = self._wait()
        if 0 in ready and not passage.feed_from(0):
            self._poller.unregister(0)
        if passage.master in ready:
            passage.flush()
            data = passage.read()
            if data:
                _write_all(data)
                return True
            if data is None:
                self._poller.unregister(passage.master)
        return self._pidfd not in ready


def _write_all(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(1, left) :]
