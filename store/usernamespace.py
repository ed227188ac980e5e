"""Whose root we are: the host's, or that of a user namespace. Imports nothing that takes time."""

import os

# The inode of the first user namespace (linux/proc_ns.h, PROC_USER_INIT_INO).
_FIRST = 0xEFFFFFFD


def in_first_user_namespace() -> bool:
    """Tell whether we are in the host's own user namespace."""
    return os.stat("/proc/self/ns/user").st_ino == _FIRST
