"""Staying with a process of a container: its terminal on ours, our signals to it, its end."""

import os
import select

from runtime.container import Container
from runtime.errors import WrongState
from runtime.launch.tolerate import tolerate
from runtime.linux.process import pidfd_send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.creating import Wish
    from runtime.launch.creation import Creation

    Made = tuple[Container, Creation]


def with_terminal(
    wish: "Wish",
    make: "Callable[[], Made]",
    started: "Callable[[Container, Creation], None]",
    end: "Callable[[Container, Creation], int]",
) -> int:
    """Run a container on our own stdio; return what `end` says of its end."""
    ours, wish.own_terminal = socket_pair()
    container, creation = make()
    os.close(wish.own_terminal)
    started(container, creation)
    wait_for(container, creation.pidfd, received_terminal(ours))
    return end(container, creation)


def socket_pair() -> "tuple[int, int]":
    """Return two connected unix sockets, for a terminal to be passed."""
    import _socket

    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    return ours.detach(), theirs.detach()


def received_terminal(sock: int) -> int:
    """Return the terminal's master that was sent over `sock`, -1 where none was."""
    from runtime.launch.channel import receive_descriptors

    passed = receive_descriptors(sock)
    os.close(sock)
    return passed[0] if passed else -1


def wait_for(container: "Container | None", pidfd: int, master: int) -> None:
    """Return when the process `pidfd` is dead; our signals and our terminal are its own until then.

    master: of its terminal, -1 for none.
    """
    from runtime import terminal

    def forward(number: int) -> None:
        with tolerate(ProcessLookupError, WrongState):
            pidfd_send_signal(pidfd, number)

    del container
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if master < 0:
        with terminal.forwarded_signals(forward, lambda: forward(9)):
            poller.poll()
        return
    passage = terminal.Terminal(master, poller)
    poller.register(master, select.POLLIN)
    poller.register(0, select.POLLIN)
    passage.resize(*terminal.size(0))
    with (
        terminal.raw_mode(0),
        terminal.forwarded_signals(
            forward, lambda: forward(9), lambda: passage.resize(*terminal.size(0))
        ),
    ):
        _pass_on(poller, passage, pidfd)
    passage.close()


def _pass_on(poller: "select.poll", passage: "Terminal", pidfd: int) -> None:
    while True:
        ready = dict(poller.poll())
        if 0 in ready and not passage.feed_from(0):
            poller.unregister(0)
        if passage.master in ready:
            passage.flush()
            data = passage.read()
            if data:
                _write_all(data)
            elif data is None:
                poller.unregister(passage.master)
        elif pidfd in ready:
            return


def _write_all(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(1, left) :]


if TYPE_CHECKING:
    from runtime.terminal import Terminal
