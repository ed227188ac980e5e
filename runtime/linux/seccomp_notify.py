"""System calls that wait for an answer: the ioctls of a seccomp filter's listener.

Source: seccomp_unotify(2); include/uapi/linux/seccomp.h.
"""

import fcntl
import struct

_NOTIF = struct.Struct("=QIIiIQ6Q")  # id, pid, flags, nr, arch, instruction_pointer, args
_RESPONSE = struct.Struct("=QqiI")  # id, val, error, flags
_ADDFD = struct.Struct("=QIIII")  # id, flags, srcfd, newfd, newfd_flags

_RECV = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102
_ADD_FD = 0x40182103
_SET_FLAGS = 0x40082104
_CONTINUE = 1
_ADD_FD_AND_SEND = 2
_SYNC_WAKE_UP = 1

# id, pid (of the thread, as we see it), number of the call, audit architecture, arguments
Call = tuple[int, int, int, int, tuple[int, ...]]


def wake_at_once(listener: int) -> None:
    """Have the kernel switch to who waits without a detour. Raises OSError before Linux 6.6."""
    fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)


def next_call(listener: int) -> Call:
    """Wait for a call. Raises OSError: ENOENT where the one that came is no more."""
    buffer = bytearray(_NOTIF.size)
    fcntl.ioctl(listener, _RECV, buffer, True)
    number, pid, _, call, arch, _, *args = _NOTIF.unpack(buffer)
    return number, pid, call, arch, tuple(args)


def is_waiting(listener: int, call_id: int) -> bool:
    """Tell whether who made the call waits still, so that its pid means that process."""
    try:
        fcntl.ioctl(listener, _ID_VALID, struct.pack("=Q", call_id))
    except OSError:
        return False
    return True


def answer(listener: int, call_id: int, value: int = 0, error: int = 0) -> None:
    """Have the call return `value`, or fail with the errno `error`. Raises OSError."""
    fcntl.ioctl(listener, _SEND, _RESPONSE.pack(call_id, value, -error, 0))


def let_through(listener: int, call_id: int) -> None:
    """Have the kernel do the call as if there were no filter. Raises OSError."""
    fcntl.ioctl(listener, _SEND, _RESPONSE.pack(call_id, 0, 0, _CONTINUE))


def answer_with_descriptor(listener: int, call_id: int, fd: int, flags: int) -> None:
    """Have the call return a copy of `fd`, with `flags` (O_CLOEXEC or 0). Raises OSError."""
    fcntl.ioctl(listener, _ADD_FD, _ADDFD.pack(call_id, _ADD_FD_AND_SEND, fd, 0, flags))
