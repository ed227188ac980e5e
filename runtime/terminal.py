"""Terminals: the master's end of a container's, and the raw mode of the one we sit at."""

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Callable, Iterator
from types import FrameType

from runtime.linux import constants as c

_CHUNK = 1 << 16
# What docker's --sig-proxy passes on, short of what describes our own process (CHLD, PIPE, ...).
FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGCONT,
)
_IMPATIENT = 3  # so many Ctrl-C or SIGTERM mean: at once


class Terminal:
    """The master of a container's terminal, never blocking, with what still has to be written."""

    def __init__(self, master: int, poller: "select.poll") -> None:
        self.master = master
        self._poller = poller
        self._pending = b""
        os.set_blocking(master, False)

    def read(self) -> bytes | None:
        """Return what the container wrote, or None at its end."""
        try:
            return os.read(self.master, _CHUNK) or None
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return None  # the last process that had the terminal open is gone

    def feed_from(self, stdin: int) -> bool:
        """Pass on what was typed; False at the end of `stdin`, which the container sees as ^D."""
        data = os.read(stdin, _CHUNK)
        self._pending += data or b"\x04"
        self.flush()
        return bool(data)

    def flush(self) -> None:
        """Write what the container did not take before; wait for room otherwise."""
        if self._pending:
            with contextlib.suppress(BlockingIOError, OSError):
                self._pending = self._pending[os.write(self.master, self._pending) :]
        events = select.POLLIN | (select.POLLOUT if self._pending else 0)
        with contextlib.suppress(OSError):
            self._poller.modify(self.master, events)

    def resize(self, rows: int, columns: int) -> None:
        """Set the window's size; the container's foreground processes get SIGWINCH."""
        set_size(self.master, rows, columns)

    def close(self) -> None:
        """Hang up."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


def size(fd: int) -> tuple[int, int]:
    """Return (rows, columns) of the terminal `fd`; (0, 0) when it is none."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, c.TIOCGWINSZ, bytes(8)))
    except OSError:
        return 0, 0
    return rows, columns


def set_size(fd: int, rows: int, columns: int) -> None:
    """Set the size of the terminal `fd`."""
    fcntl.ioctl(fd, c.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextlib.contextmanager
def raw_mode(fd: int | None) -> Iterator[None]:
    """Pass every key on untouched while inside; does nothing where `fd` is no terminal."""
    if fd is None or not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    iflag, oflag, cflag, lflag, *speeds, chars = termios.tcgetattr(fd)
    iflag &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    chars = [*chars]
    chars[termios.VMIN], chars[termios.VTIME] = 1, 0
    # The container's terminal has turned its newlines into CR LF already; ours would add a CR more.
    oflag &= ~termios.OPOST
    termios.tcsetattr(fd, termios.TCSADRAIN, [iflag, oflag, cflag, lflag, *speeds, chars])
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class ForwardedSignals:
    """Hands the signals that we get to `forward` while inside; main thread only.

    kill: called at the third SIGINT or SIGTERM, for a command that ignores them.
    resized: called when our window changed its size.
    urgent: how many of those two came so far.
    """

    def __init__(
        self,
        forward: Callable[[int], None],
        kill: Callable[[], None],
        resized: Callable[[], None] | None = None,
        urgent: int = 0,
    ) -> None:
        self._forward = forward
        self._kill = kill
        self._resized = resized
        self.urgent = urgent

    def take(self, number: int, _frame: FrameType | None = None) -> None:
        """Do what the signal `number` asks for."""
        self.urgent += number in (signal.SIGINT, signal.SIGTERM)
        if self.urgent >= _IMPATIENT:
            self._kill()
        else:
            self._forward(number)

    def __enter__(self) -> "ForwardedSignals":
        self._before = {number: signal.signal(number, self.take) for number in FORWARDED}
        if self._resized is not None:
            call = self._resized
            old = signal.signal(signal.SIGWINCH, lambda _number, _frame: call())
            self._before[signal.SIGWINCH] = old
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
