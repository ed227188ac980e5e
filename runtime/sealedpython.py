"""An interpreter that nothing in a container can write to: a read-only mount of its own file."""

import errno
import os
import sys

from runtime.errors import LaunchFailed, NotPrivileged
from runtime.linux import constants as c
from runtime.linux import mount as m


def interpreter() -> str:
    """Return the path of the real Python binary behind a virtual environment's link."""
    base: str = getattr(sys, "_base_executable", None) or sys.executable
    if not base:
        raise LaunchFailed("start launcher: the path of the Python interpreter is not known")
    return os.path.realpath(base)


def library_environment() -> "dict[str, str]":
    """Return the variable by which a relocatable Python finds its library.

    It would look relative to /proc/self/exe, which says nothing for a detached mount.
    """
    return {"LD_LIBRARY_PATH": os.path.join(sys.base_exec_prefix, sys.platlibdir)}


def sealed_interpreter() -> int:
    """Return a descriptor of the interpreter on a read-only mount of its own."""
    tree = -1
    try:
        tree = m.open_tree(c.AT_FDCWD, interpreter(), c.OPEN_TREE_CLONE)
        m.mount_setattr(tree, c.MOUNT_ATTR_RDONLY, 0, c.MS_PRIVATE)
    except OSError as error:
        if tree >= 0:
            os.close(tree)
        if error.errno == errno.ENOSYS:  # before Linux 5.12
            return copied_interpreter()
        raise NotPrivileged(
            f"start launcher: {error.strerror}",
            hint="containers need root (CAP_SYS_ADMIN) on this host",
        ) from error
    return tree


def copied_interpreter() -> int:
    """Return a descriptor of a copy of the interpreter in memory, sealed against writing."""
    fd = os.memfd_create("python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    import fcntl

    with open(interpreter(), "rb") as file:
        while os.sendfile(fd, file.fileno(), None, 1 << 24):
            pass
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
