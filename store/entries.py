"""Single entries of a tree: what names may be, and how attributes get onto the disk."""

import errno
import os
import stat

from store import ownership
from store.errors import BadArchive
from store.linux import copy_file
from store.overlay import PREFIXES
from store.tarreader import Member
from store.tree import Place, shown

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# The kernel's labels are the host's business, and trusted xattrs the store's.
_DROPPED = ("security.selinux", "security.ima", "security.evm", "trusted.")
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL)


def refused(member: Member, cause: str) -> BadArchive:
    """Return the error that says why an entry is not taken."""
    return BadArchive(f"unpack {shown(member.name)}: {cause}")


def copy_up(source: bytes, status: os.stat_result, place: Place) -> None:
    """Make a file from below anew, as overlay does before it links to it."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        source_fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fd = os.open(place.name, CREATE, 0o600, dir_fd=place.fd)
            try:
                copy_file(source_fd, fd, status.st_size)
            finally:
                os.close(fd)
        finally:
            os.close(source_fd)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(source), place.name, dir_fd=place.fd)
    else:
        os.mknod(place.name, kind | 0o600, status.st_rdev, dir_fd=place.fd)
    copy_attributes(source, status, place)
    times = status.st_atime_ns, status.st_mtime_ns
    os.utime(place.name, ns=times, dir_fd=place.fd, follow_symlinks=False)
    ownership.note_in_times(place.name, *ownership.owner_of(source, status), dir_fd=place.fd)


def copy_attributes(source: bytes, status: os.stat_result, place: Place) -> None:
    """Give what is at `place` the owner, mode and xattrs of a file or directory elsewhere."""
    ownership.give(place.name, *ownership.owner_of(source, status), dir_fd=place.fd)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(place.name, status.st_mode & 0o7777, dir_fd=place.fd)
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith(PREFIXES) and not name.startswith(_DROPPED):
            value = os.getxattr(source, name, follow_symlinks=False)
            os.setxattr(place.proc_path(), name, value, follow_symlinks=False)


def set_xattrs(member: Member, target: int | str) -> None:
    """Set an entry's xattrs on a descriptor or a path. Raises BadArchive for overlay's own."""
    for key, value in member.xattrs:
        name = os.fsdecode(key)
        if name.startswith(PREFIXES):
            raise refused(member, f"xattr {name} is overlay's own")
        if name.startswith(_DROPPED):
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            # The header stream keeps what this file system cannot, as containerd forgives it.
            if error.errno not in _UNSUPPORTED:
                raise
        except ValueError as error:
            raise refused(member, "an xattr's name holds a zero byte") from error
