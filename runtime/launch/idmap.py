"""User namespaces that exist for their id mappings."""

import os

from runtime.linux import constants as c
from runtime.linux.namespaces import unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import IdMapPlan


def write_maps(pid: int, maps: "IdMapPlan") -> None:
    """Give the new user namespace of process `pid` its mappings."""
    for name, lines in zip(("uid_map", "gid_map"), maps, strict=True):
        if not lines:
            continue
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            # One write: the kernel takes the whole map at once, or not at all.
            os.write(fd, lines.encode())
        except OSError as error:
            raise OSError(error.errno, f"{name}: {error.strerror}", lines.strip()) from error
        finally:
            os.close(fd)


def namespace_of(maps: "IdMapPlan") -> int:
    """Return a descriptor of a user namespace with `maps`, which no process is in."""
    ready_read, ready_write = os.pipe()
    done_read, done_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(done_write)
        try:
            unshare(c.CLONE_NEWUSER)
            os.write(ready_write, b"r")
            os.read(done_read, 1)
        finally:
            os._exit(0)
    os.close(ready_write)
    os.close(done_read)
    try:
        if not os.read(ready_read, 1):
            raise OSError(1, "a user namespace for an idmapped mount cannot be made")
        write_maps(pid, maps)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(done_write)
        os.close(ready_read)
        os.waitpid(pid, 0)
