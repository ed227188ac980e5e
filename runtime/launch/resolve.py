"""Paths inside a root file system, opened so that no symlink of the image can lead out.

openat2 with RESOLVE_IN_ROOT does it; where openat2 is refused (old kernels, seccomp profiles of
an outer container), a walk with O_PATH|O_NOFOLLOW descriptors does the same, slower.
"""

import errno
import os
import stat

from runtime.linux import constants as c
from runtime.linux.mount import openat2

_MAX_SYMLINKS = 40
_REFUSED = (errno.ENOSYS, errno.EPERM)


def open_in_root(root: int, path: str, flags: int, follow: bool = True) -> int:
    """Open `path` below the directory `root`, treating `root` as `/`; return the descriptor.

    follow: False refuses every symlink on the way (ELOOP).
    """
    resolve = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS
    if not follow:
        resolve |= c.RESOLVE_NO_SYMLINKS
    for _ in range(32):
        try:
            return openat2(root, path or ".", flags, 0, resolve)
        except OSError as error:
            # EAGAIN: something was renamed meanwhile and the kernel could not be sure.
            if error.errno in _REFUSED:
                return walk(root, path, flags, follow)
            if error.errno != errno.EAGAIN:
                raise
    return walk(root, path, flags, follow)


def walk(root: int, path: str, flags: int, follow: bool = True) -> int:
    """Do what `open_in_root` does without openat2, one component at a time."""
    way = _Way(root, path, follow)
    try:
        while way.todo:
            way.step()
        if flags & os.O_PATH:
            return os.dup(way.stack[-1])
        # Reopening goes by our own procfs: what the image mounted cannot matter.
        reopened = f"/proc/self/fd/{way.stack[-1]}"
        return os.open(reopened, (flags & ~os.O_NOFOLLOW) | os.O_CLOEXEC)
    finally:
        for fd in way.stack:
            os.close(fd)


class _Way:
    """A walk under way. stack: descriptors from the root to where it is; todo: components left."""

    def __init__(self, root: int, path: str, follow: bool) -> None:
        self.stack = [os.dup(root)]
        self.todo = _parts(path)
        self._path = path
        self._links_left = _MAX_SYMLINKS if follow else 0

    def step(self) -> None:
        """Take one component."""
        name = self.todo.pop()
        if not stat.S_ISDIR(os.fstat(self.stack[-1]).st_mode):
            raise self._error(errno.ENOTDIR)
        if name == ".":
            return
        if name == "..":
            self._up(1)
            return
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.stack[-1])
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            self.stack.append(fd)
            return
        target = os.readlink("", dir_fd=fd)
        os.close(fd)
        if not self._links_left or _is_magic(self.stack[-1]):
            raise self._error(errno.ELOOP)
        self._links_left -= 1
        if target.startswith("/"):
            self._up(len(self.stack))
        self.todo += _parts(target)

    def _up(self, count: int) -> None:
        """Go up, never above the root."""
        while count and len(self.stack) > 1:
            os.close(self.stack.pop())
            count -= 1

    def _error(self, code: int) -> OSError:
        return OSError(code, f"open: {os.strerror(code)}", self._path)


def _parts(path: str) -> "list[str]":
    return [part for part in reversed(path.split("/")) if part]


def _is_magic(directory: int) -> bool:
    """Tell whether symlinks in `directory` are procfs's own, which lead anywhere."""
    return os.stat("/proc/self").st_dev == os.fstat(directory).st_dev


def read_regular(root: int, path: str, limit: int) -> bytes | None:
    """Return the content of the regular file `path` below `root`; None when there is none.

    The image chose what lies there: a fifo must not hang us, a device must not be read, an
    endless file must not fill the memory. Raises OSError (EFBIG) past `limit` bytes.
    """
    try:
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES):
            return None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        data = b""
        while part := os.read(fd, 1 << 20):
            data += part
            if len(data) > limit:
                raise OSError(errno.EFBIG, f"read: more than {limit} bytes", path)
        return data
    finally:
        os.close(fd)
