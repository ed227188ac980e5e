"""What overlayfs makes of directories on top of each other, worked out without mounting.

Owns the kernel's marks: the whiteout (a character device 0:0) and the opaque directory (an xattr).
Source: Documentation/filesystems/overlayfs.rst, "Upper and Lower", "whiteouts and opaque
directories".
"""

import errno
import os
import stat
from collections.abc import Sequence

from store import manner

PREFIXES = ("trusted.overlay.", "user.overlay.")

_ABSENT = (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT)


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether this is the mark for "deleted": overlay's, or what stands for it.

    A socket does on disks that refuse overlay's, where no overlay is mounted: no layer has any.
    """
    if stat.S_ISSOCK(status.st_mode):
        return True
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def make_whiteout(name: bytes, dir_fd: int | None = None) -> None:
    """Mark `name`, a path or a name in the directory `dir_fd`, as deleted. Raises OSError."""
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=dir_fd)
    except PermissionError:  # an overlay takes none, for it would be its own
        os.mknod(name, stat.S_IFSOCK, dir_fd=dir_fd)


def opaque_mark() -> str:
    """Return the xattr that makes a directory hide what lies below it."""
    return f"{manner.current().marks}.overlay.opaque"


def elsewhere_marks() -> tuple[str, str]:
    """Return the xattrs of what lies in another layer. We never mount so that there are any."""
    marks = manner.current().marks
    return f"{marks}.overlay.redirect", f"{marks}.overlay.metacopy"


def is_opaque(directory: int | str | bytes) -> bool:
    """Tell whether a directory (path or descriptor) hides what lies below it. Raises OSError."""
    try:
        return os.getxattr(directory, opaque_mark()) == b"y"
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise


class Merged:
    """A directory as the layers below show it: merged, read-only, perhaps absent.

    directories: absolute paths of the layers' directories that merge here, topmost first; with
    none the directory is absent. None of them may lie below a symlink.
    """

    def __init__(self, directories: Sequence[bytes] = ()) -> None:
        self.directories = tuple(directories)
        self._children: dict[bytes, tuple[os.stat_result | None, Merged]] = {}

    def exists(self) -> bool:
        """Tell whether there is such a directory."""
        return bool(self.directories)

    def names(self) -> list[bytes]:
        """Return the names of what is visible here, sorted."""
        found: set[bytes] = set()
        for directory in self.directories:
            found.update(os.listdir(directory))
        return sorted(name for name in found if self.stat(name) is not None)

    def place(self, name: bytes) -> bytes:
        """Return the absolute path of what is visible as `name`, the topmost of a directory's."""
        places = (b"%b/%b" % (directory, name) for directory in self.directories)
        return next(place for place in places if os.path.lexists(place))

    def stat(self, name: bytes) -> os.stat_result | None:
        """Return the lstat of the entry `name`, None when nothing is visible there."""
        return self._look(name)[0]

    def enter(self, name: bytes) -> "Merged":
        """Return the directory `name`, an absent one when there is none."""
        return self._look(name)[1]

    def find(self, path: bytes) -> tuple[os.stat_result, bytes] | None:
        """Return the lstat and the absolute path of what is visible at `path`, else None.

        path: relative; a symlink on the way is not followed and ends the search.
        """
        parent, _, name = path.rpartition(b"/")
        status, _ = self.at(parent)._look(name)
        if status is None:
            return None
        return status, self.at(parent).place(name)

    def at(self, path: bytes) -> "Merged":
        """Return the directory at the relative `path`, an absent one when there is none."""
        here = self
        for part in path.split(b"/"):
            if part:
                here = here.enter(part)
        return here

    def _look(self, name: bytes) -> "tuple[os.stat_result | None, Merged]":
        known = self._children.get(name)
        if known is None:
            known = self._children[name] = self._search(name)
        return known

    def _search(self, name: bytes) -> "tuple[os.stat_result | None, Merged]":
        found: os.stat_result | None = None
        merging: list[bytes] = []
        for index, directory in enumerate(self.directories):
            path = b"%b/%b" % (directory, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(status.st_mode):
                # A file ends the merge; on top it is what shows, unless it is a whiteout.
                if not merging and not is_whiteout(status):
                    found = status
                break
            found = found or status
            merging.append(path)
            if index + 1 < len(self.directories) and is_opaque(path):
                break
        return found, Merged(merging)
