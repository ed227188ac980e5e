"""The loopback interface of a new network namespace, which begins down."""

import fcntl
import os
import struct

from runtime.linux import constants as c
from runtime.linux.libc import libc, oserror


def loopback_up() -> None:
    """Set the network namespace's lo up; the kernel then gives it 127.0.0.1 and ::1."""
    af_inet, sock_dgram = 2, 2
    fd = libc.socket(af_inet, sock_dgram | os.O_CLOEXEC, 0)
    if fd < 0:
        raise oserror("socket", "lo")
    request = fcntl.ioctl(fd, c.SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
    flags = struct.unpack_from("16sh", request)[1]
    fcntl.ioctl(fd, c.SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | c.IFF_UP))
    os.close(fd)
