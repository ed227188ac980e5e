"""The container as its supervisor sees it: the callers' memory, and where their paths lead."""

import errno
import os

from runtime.linux import constants as c
from runtime.linux import seccomp_notify
from runtime.linux.capabilities import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.emulated.identity import Processes
    from runtime.linux.seccomp_notify import Call
    from runtime.plan import ProcessPlan

HERE = c.AT_FDCWD & 0xFFFFFFFF
_LONGEST_PATH = 4096
# What such a path means depends on who says it, and is nothing for us.
_OWN_DESCRIPTORS = (b"/proc/self/fd/", b"/proc/thread-self/fd/", b"/dev/fd/")
_STDIO = {b"/dev/stdin": b"0", b"/dev/stdout": b"1", b"/dev/stderr": b"2"}


class Native(Exception):
    """The kernel's own answer is the right one."""


class World:
    """The container as the supervisor sees it; at home our working directory is the host's procfs.

    listener: where calls come from. may_give: whether the container's root may give files away.
    may_gain: whether a program may give its caller more rights than he has.
    """

    def __init__(
        self, descriptors: "tuple[int, int, int]", processes: "Processes", plan: "ProcessPlan"
    ) -> None:
        """descriptors: the listener, the host's procfs, and the container's root directory."""
        self.listener, self._proc, self._root = descriptors
        self.processes = processes
        self.may_give = bool(plan["capabilities"]["effective"] >> NUMBERS["CAP_CHOWN"] & 1)
        self.may_gain = not plan["no_new_privileges"]
        self._away = self._other_root = False
        self._mounts = os.readlink(b"self/ns/mnt", dir_fd=self._proc)

    @property
    def is_home(self) -> bool:
        """Whether a relative path begins at the host's procfs."""
        return not self._away

    def return_home(self) -> None:
        """Go back to where every call is begun."""
        if self._other_root:
            os.fchdir(self._root)
            os.chroot(".")
            self._away, self._other_root = True, False
        if self._away:
            os.fchdir(self._proc)
            self._away = False

    def check(self, call: "Call") -> None:
        """Raise Native where the caller is gone: what we looked at may be another process's."""
        if not seccomp_notify.is_waiting(self.listener, call[0]):
            raise Native

    def read(self, call: "Call", address: int, size: int) -> bytes:
        """Return up to `size` bytes of the caller's memory. Raises OSError."""
        fd = self._open(f"{call[1]}/mem", os.O_RDONLY)
        try:
            return os.pread(fd, size, address)
        except (OSError, OverflowError):
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT)) from None
        finally:
            os.close(fd)

    def write(self, call: "Call", address: int, data: bytes) -> None:
        """Write into the caller's memory. Raises OSError, Native."""
        fd = self._open(f"{call[1]}/mem", os.O_RDWR)
        try:
            self.check(call)
            os.pwrite(fd, data, address)
        except (OSError, OverflowError):
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT)) from None
        finally:
            os.close(fd)

    def text(self, call: "Call", address: int) -> bytes:
        """Return a string of the caller's. Raises OSError."""
        text, zero, _ = self.read(call, address, _LONGEST_PATH).partition(b"\0")
        if not zero:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return text

    def descriptor(self, call: "Call", fd: int) -> bytes:
        """Return a path, from home, of what a descriptor of the caller's is open on."""
        return b"%d/fd/%d" % (call[1], fd)

    def place(self, call: "Call", folder: int, address: int, flags: int = 0) -> bytes:
        """Go where the caller's path begins, and return the path from there.

        folder: a descriptor of the caller's, or AT_FDCWD. Raises OSError, Native.
        """
        path = self.text(call, address) if address else b""
        begin = folder - (1 << 32) if folder & 0x80000000 else folder & 0xFFFFFFFF
        start = b"%d/cwd" % call[1] if begin == c.AT_FDCWD else self.descriptor(call, begin)
        if not path:
            if not flags & c.AT_EMPTY_PATH:
                raise Native
            return start
        self._take_root(call)
        if path.startswith(b"/"):
            own = _own_descriptor(path)
            return self.descriptor(call, own) if own >= 0 else path
        fd = self._open(start, os.O_PATH | os.O_DIRECTORY)
        try:
            self._away = True
            os.fchdir(fd)
        finally:
            os.close(fd)
        return path

    def umask(self, call: "Call") -> None:
        """Take the caller's mask for what is made next. Raises Native where it was killed."""
        fd = self._open(f"{call[1]}/status", os.O_RDONLY)
        try:
            text = os.read(fd, 256)
        finally:
            os.close(fd)
        found = text.partition(b"Umask:")[2].split(None, 1)
        if not found:  # a zombie has none
            raise Native
        os.umask(int(found[0], 8))

    def has_right(self, call: "Call", name: str) -> bool:
        """Tell whether the kernel has a capability among the caller's effective ones."""
        fd = self._open(f"{call[1]}/status", os.O_RDONLY)
        try:
            found = os.read(fd, 4096).partition(b"CapEff:")[2].split(None, 1)
        finally:
            os.close(fd)
        return bool(found) and bool(int(found[0], 16) >> NUMBERS[name] & 1)

    def _take_root(self, call: "Call") -> None:
        """Take the caller's root where it is not the container's: it called chroot or unshare."""
        root = b"%d/root" % call[1]
        try:
            mounts = os.readlink(b"%d/ns/mnt" % call[1], dir_fd=self._proc)
            if mounts == self._mounts and os.readlink(root, dir_fd=self._proc) == b"/":
                return
        except OSError:
            raise Native from None
        fd = self._open(root, os.O_PATH | os.O_DIRECTORY)
        try:
            self._other_root = True
            os.fchdir(fd)
            os.chroot(".")
            os.fchdir(self._proc)
        finally:
            os.close(fd)

    def _open(self, path: str | bytes, flags: int) -> int:
        """Open a file of procfs. Raises Native: the caller is gone, or not for us to look into."""
        try:
            return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._proc)
        except OSError:
            raise Native from None


def _own_descriptor(path: bytes) -> int:
    """Return the number of a descriptor that the caller named by a path, -1 for other paths."""
    if path in _STDIO:
        return int(_STDIO[path])
    for prefix in _OWN_DESCRIPTORS:
        if path.startswith(prefix) and path[len(prefix) :].isdigit():
            return int(path[len(prefix) :])
    return -1
