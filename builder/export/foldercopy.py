"""A file system as a directory of the host: `--output type=local`.

Everything is the caller's own, as docker's client writes it; modes, times, links and user.* xattrs
are the image's. What is already there is merged with: a directory stays, anything else that is in
the way is replaced. Source: BuildKit `session/filesync` (syncTargetDiffCopy), fsutil `diskwriter`.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from store import linux
from store.errors import StoreError
from store.trash import delete_at
from store.treetar import Entry, entries, open_file, open_folder, read_xattrs

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_folder(
    root_fd: int, dest: str, check: Callable[[], None], *, is_exact: bool = False
) -> None:
    """Copy everything below `root_fd` into the folder `dest`, which is made when absent.

    The copy is made beside what is there, and takes its place when it is whole. check: called
    before each file, may raise. is_exact: what else is in the folder goes. Raises OSError,
    StoreError.
    """
    is_new = not os.path.isdir(dest)
    if is_new:
        os.makedirs(dest, exist_ok=True)
    dest_fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    scratch = f".pybuild-{os.getpid()}"
    try:
        os.mkdir(scratch, 0o700, dir_fd=dest_fd)
        scratch_fd = os.open(scratch, _DIRECTORY, dir_fd=dest_fd)
        try:
            _Copy(scratch_fd, check).folder(root_fd, scratch_fd, b"")
            if is_exact:
                _remove_others(scratch_fd, dest_fd, scratch)
            _merge(scratch_fd, dest_fd)
        finally:
            os.close(scratch_fd)
        delete_at(dest_fd, scratch)
    except BaseException:
        with suppress(OSError):
            delete_at(dest_fd, scratch)
        if is_new:
            with suppress(OSError):
                os.rmdir(dest)
        raise
    finally:
        os.close(dest_fd)


class _Copy:
    """One copy into an empty directory that nobody else writes to."""

    def __init__(self, top_fd: int, check: Callable[[], None]) -> None:
        self._top_fd = top_fd
        self._check = check
        self._linked: dict[tuple[int, int], bytes] = {}

    def folder(self, source_fd: int, target_fd: int, path: bytes) -> None:
        """Copy what one directory holds; `path` is its own from the top, with a slash."""
        for entry in entries(source_fd, path):
            self._check()
            if stat.S_ISDIR(entry.status.st_mode):
                self._subfolder(entry, target_fd)
            elif not self._link(entry, target_fd):
                self._leaf(entry, target_fd)

    def _subfolder(self, entry: Entry, target_fd: int) -> None:
        os.mkdir(entry.name, 0o700, dir_fd=target_fd)
        source_fd = open_folder(entry)
        try:
            made_fd = os.open(entry.name, _DIRECTORY, dir_fd=target_fd)
            try:
                self.folder(source_fd, made_fd, entry.path + b"/")
                _finish(made_fd, entry.status, read_xattrs(source_fd))
            finally:
                os.close(made_fd)
        finally:
            os.close(source_fd)

    def _link(self, entry: Entry, target_fd: int) -> bool:
        """Make a hard link when the file is one of a name that came before."""
        status = entry.status
        if status.st_nlink < 2:
            return False
        first = self._linked.setdefault((status.st_dev, status.st_ino), entry.path)
        if first == entry.path:
            return False
        os.link(
            first, entry.name, src_dir_fd=self._top_fd, dst_dir_fd=target_fd, follow_symlinks=False
        )
        return True

    def _leaf(self, entry: Entry, target_fd: int) -> None:
        status, name = entry.status, entry.name
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            return
        if kind == stat.S_IFREG:
            _copy_file(entry, target_fd)
            return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=entry.parent_fd), name, dir_fd=target_fd)
        else:
            os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=target_fd)
        os.chown(name, os.geteuid(), os.getegid(), dir_fd=target_fd, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            # A device or fifo of our own folder: nobody can have made a link of it.
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target_fd)
        os.utime(name, ns=_times(status), dir_fd=target_fd, follow_symlinks=False)


def _copy_file(entry: Entry, target_fd: int) -> None:
    source_fd = open_file(entry)
    try:
        made_fd = os.open(entry.name, _NEW_FILE, 0o600, dir_fd=target_fd)
        try:
            linux.copy_file(source_fd, made_fd, entry.status.st_size)
            if os.fstat(made_fd).st_size != entry.status.st_size:
                raise StoreError(f"copy /{os.fsdecode(entry.path)}: it shrank while it was read")
            _finish(made_fd, entry.status, read_xattrs(source_fd))
        finally:
            os.close(made_fd)
    finally:
        os.close(source_fd)


def _finish(fd: int, status: os.stat_result, xattrs: dict[bytes, bytes]) -> None:
    """Give a file or directory its owner, xattrs, mode and times, in the order that keeps them."""
    os.fchown(fd, os.geteuid(), os.getegid())
    for name, value in xattrs.items():
        with suppress(PermissionError, NotImplementedError):
            _set_xattr(fd, name, value)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    os.utime(fd, ns=_times(status))


def _set_xattr(fd: int, name: bytes, value: bytes) -> None:
    try:
        os.setxattr(fd, name, value)
    except OSError as error:
        # Not every file system of a host has them, and docker does not mind either.
        import errno

        if error.errno != errno.EOPNOTSUPP:
            raise


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_mtime_ns


def _merge(source_fd: int, target_fd: int) -> None:
    """Move what the directory `source_fd` holds into another of the same file system."""
    for entry in entries(source_fd, b""):
        there = _lstat(entry.name, target_fd)
        is_folder = stat.S_ISDIR(entry.status.st_mode)
        if there is not None and is_folder and stat.S_ISDIR(there.st_mode):
            _merge_folder(entry, target_fd)
            continue
        if there is not None and is_folder != stat.S_ISDIR(there.st_mode):
            delete_at(target_fd, os.fsdecode(entry.name))
        os.rename(entry.name, entry.name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
        if is_folder:
            _restore_times(entry, target_fd)


def _merge_folder(entry: Entry, target_fd: int) -> None:
    source_fd = open_folder(entry)
    try:
        there_fd = os.open(entry.name, _DIRECTORY, dir_fd=target_fd)
        try:
            _merge(source_fd, there_fd)
            _finish(there_fd, entry.status, {})
        finally:
            os.close(there_fd)
    finally:
        os.close(source_fd)


def _remove_others(source_fd: int, target_fd: int, kept: str = "") -> None:
    """Remove what one directory has and the other, `source_fd`, has not. kept: a name that stays.

    No link is followed.
    """
    for name in os.listdir(target_fd):
        if name == kept:
            continue
        there, wanted = _lstat(os.fsencode(name), target_fd), _lstat(os.fsencode(name), source_fd)
        if there is None:
            continue
        if wanted is None:
            delete_at(target_fd, name)
        elif stat.S_ISDIR(there.st_mode) and stat.S_ISDIR(wanted.st_mode):
            with _opened(name, source_fd) as inner, _opened(name, target_fd) as other:
                _remove_others(inner, other)


@contextmanager
def _opened(name: str, parent_fd: int) -> Iterator[int]:
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _restore_times(entry: Entry, target_fd: int) -> None:
    os.utime(entry.name, ns=_times(entry.status), dir_fd=target_fd, follow_symlinks=False)


def _lstat(name: bytes, folder_fd: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
