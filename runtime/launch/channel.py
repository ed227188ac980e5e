"""Messages between caller, launcher and init: marshal values behind a length, over pipes."""

import marshal
import os
import struct

from runtime.launch.tolerate import tolerate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LENGTH = struct.Struct("<I")
_LIMIT = 64 << 20
_DESCRIPTORS = 250  # the kernel passes 253 at once


def send(fd: int, message: "tuple[Any, ...]") -> None:
    """Write one message; marshal takes plain values only (no dataclasses)."""
    body = marshal.dumps(message)
    data = memoryview(_LENGTH.pack(len(body)) + body)
    while data:
        data = data[os.write(fd, data) :]


def send_failure(fd: int, kind: str, text: str, number: int = 0) -> None:
    """Tell why there will be no command, or be silent; never raises OSError.

    Where nobody reads any more (`create` has ended, and `start` waits for nothing), the line goes
    where the command's own errors would.
    """
    try:
        send(fd, ("failed", kind, text, number))
    except OSError:
        with tolerate(OSError):  # nor does anybody read those
            os.write(2, f"{text}\n".encode("utf-8", "surrogateescape"))


def _read_exactly(fd: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(fd, size)
        if not part:
            raise EOFError("the other end is gone")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive(fd: int) -> "tuple[object, ...] | None":
    """Return the next message, or None when the other end is closed.

    Raises EOFError when it closed in the middle of a message, ValueError when the bytes are none.
    """
    try:
        head = os.read(fd, _LENGTH.size)
    except ConnectionError:
        return None
    if not head:
        return None
    head += _read_exactly(fd, _LENGTH.size - len(head))
    (size,) = _LENGTH.unpack(head)
    if size > _LIMIT:
        raise ValueError("message too long")
    message = marshal.loads(_read_exactly(fd, size))
    if not isinstance(message, tuple):
        raise ValueError("no message")  # noqa: TRY004 - a broken peer, not a wrong argument
    return message


def send_descriptor(socket_fd: int, fd: int, word: bytes = b"t") -> None:
    """Pass `fd` over the unix socket `socket_fd`; `_socket` must have been imported before."""
    import _socket

    sock = _socket.socket(fileno=socket_fd)
    sock.sendmsg([word], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))])
    sock.detach()


def send_descriptors(socket_fd: int, fds: "tuple[int, ...]") -> None:
    """Pass descriptors over the unix socket `socket_fd`, before the next message."""
    import _socket

    sock = _socket.socket(fileno=socket_fd)
    try:
        sock.sendmsg(
            [b"d"],
            [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))],
        )
    finally:
        sock.detach()


def receive_descriptors(socket_fd: int) -> "tuple[int, ...] | None":
    """Return the descriptors passed over `socket_fd`, or None when the other end is closed."""
    import _socket

    sock = _socket.socket(fileno=socket_fd)
    try:
        room = _socket.CMSG_SPACE(4 * _DESCRIPTORS)
        data, ancillary, _, _ = sock.recvmsg(1, room, _socket.MSG_CMSG_CLOEXEC)
    finally:
        sock.detach()
    if not data:
        return None
    (passed,) = [rights for _, _, rights in ancillary]
    return struct.unpack(f"{len(passed) // 4}i", passed)
