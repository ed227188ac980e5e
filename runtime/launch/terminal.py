"""A terminal in the container's own devpts."""

import errno
import fcntl
import os
import struct

from runtime.linux import constants as c
from runtime.linux import mount as m


def open_terminal(root: int, window: "tuple[int, int]") -> "tuple[int, int]":
    """Return (slave, master) of a new terminal below the root directory `root`.

    window: rows and columns, 0 for unknown.
    """
    flags = os.O_RDWR | os.O_NOCTTY
    master = m.openat2(root, "dev/pts/ptmx", flags, 0, c.RESOLVE_IN_ROOT)
    if os.fstat(master).st_rdev != os.makedev(5, 2):
        raise OSError(errno.ENODEV, "the image has something else there", "/dev/pts/ptmx")
    fcntl.ioctl(master, c.TIOCSPTLCK, struct.pack("i", 0))
    if all(window):
        fcntl.ioctl(master, c.TIOCSWINSZ, struct.pack("HHHH", *window, 0, 0))
    # By the master itself, never by a path: the image cannot put another device in its place.
    return fcntl.ioctl(master, c.TIOCGPTPEER, flags | os.O_CLOEXEC), master
