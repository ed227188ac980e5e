"""Device nodes of the host, for containers whose user namespace may not make any that work."""

import errno
import os
import stat

from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import DevicePlan


def host_device(device: "DevicePlan") -> int:
    """Return a detached mount of the host's node for `device`. Raises OSError."""
    path, kind, number, *_ = device
    if kind == stat.S_IFIFO:
        raise OSError(errno.EPERM, "a user namespace shows devices of the host only", path)
    if not os.path.exists(path):  # it has another name in the container
        path = _name_of_device(kind, number) or path
    tree = m.open_tree(c.AT_FDCWD, path, c.OPEN_TREE_CLONE)
    status = os.fstat(tree)
    if stat.S_IFMT(status.st_mode) != kind or status.st_rdev != number:
        raise OSError(errno.ENODEV, "the host has another device of that name", path)
    return tree


def _name_of_device(kind: int, number: int) -> str:
    """Return the path of a device at the top of the host's /dev, "" where there is none."""
    for name in os.listdir("/dev"):
        with tolerate(OSError):  # gone meanwhile
            status = os.lstat(f"/dev/{name}")
            if stat.S_IFMT(status.st_mode) == kind and status.st_rdev == number:
                return f"/dev/{name}"
    return ""
