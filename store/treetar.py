"""A directory tree as one tar: what `export` and `--output type=tar` write.

Reads through descriptors and follows no link. What has no place in a tar (sockets) is left out.
"""

import os
import stat
from collections.abc import Callable, Iterable
from typing import BinaryIO, NamedTuple

from store import ownership, tarwriter
from store.errors import StoreError
from store.overlay import PREFIXES, is_whiteout
from store.tarwriter import BLOCK, CHARACTER, DIRECTORY, END, FIFO, LINK, REGULAR, SYMLINK, Header

_NANO = 1_000_000_000
_CHUNK_BYTES = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SPECIAL = {stat.S_IFCHR: CHARACTER, stat.S_IFBLK: BLOCK, stat.S_IFIFO: FIFO}


class Entry(NamedTuple):
    """One name of a tree: its open parent, what it is, and its path from the root."""

    parent_fd: int
    name: bytes
    path: bytes
    status: os.stat_result


def write_tree(root_fd: int, dest: BinaryIO, check: Callable[[], None] = lambda: None) -> None:
    """Write everything below the directory `root_fd` to `dest`, sorted by name.

    dest: may be a pipe. check: called before each file, may raise.
    Raises OSError, and StoreError for a file that shrinks meanwhile.
    """
    write_trees([(b"", root_fd)], dest, check)


def write_trees(
    trees: Iterable[tuple[bytes, int]], dest: BinaryIO, check: Callable[[], None] = lambda: None
) -> None:
    """Write several directories as one tar, each below a folder of its own (`b""` for none).

    trees: (folder's name, directory's descriptor), sorted by name; of two that share a folder the
    second comes on top. As write_tree otherwise.
    """
    before = b""
    for folder, root_fd in trees:
        _Writer(dest, check).write(root_fd, folder, is_new=folder != before)
        before = folder
    _put(dest, END)
    dest.flush()


def read_xattrs(path: str | int, *, follow_symlinks: bool = True) -> dict[bytes, bytes]:
    """Return the extended attributes that images carry: capabilities and `user.*`."""
    names = os.listxattr(path, follow_symlinks=follow_symlinks)
    return {
        os.fsencode(name): os.getxattr(path, name, follow_symlinks=follow_symlinks)
        for name in sorted(names)
        if name == "security.capability" or (name.startswith("user.") and "=" not in name)
        if not name.startswith(PREFIXES)
    }


def entries(folder_fd: int, path: bytes) -> list[Entry]:
    """Return what the directory `folder_fd`, whose path from the root is `path`, holds, sorted.

    Raises OSError.
    """
    found = []
    for name in sorted(os.listdir(folder_fd), key=os.fsencode):
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        raw = os.fsencode(name)
        if not is_whiteout(status):  # a single layer is shown as it lies on the disk
            found.append(Entry(folder_fd, raw, path + raw, status))
    return found


def open_folder(entry: Entry) -> int:
    """Open a directory; the caller closes it."""
    return os.open(entry.name, _DIRECTORY, dir_fd=entry.parent_fd)


def open_file(entry: Entry) -> int:
    """Open a regular file; the caller closes it."""
    return os.open(entry.name, _FILE, dir_fd=entry.parent_fd)


class _Writer:
    def __init__(self, dest: BinaryIO, check: Callable[[], None]) -> None:
        self._dest = dest
        self._check = check
        self._linked: dict[tuple[int, int], bytes] = {}

    def write(self, root_fd: int, folder: bytes = b"", *, is_new: bool = True) -> None:
        prefix = folder + b"/" if folder else b""
        if prefix and is_new:
            header = Header(
                prefix, DIRECTORY, 0o755, mtime_s=os.fstat(root_fd).st_mtime_ns // _NANO
            )
            self._put(tarwriter.encode(header))
        folder_fd = os.dup(root_fd)
        # Of each open directory what is left of it. Not recursive: trees can be deep.
        levels = [(folder_fd, iter(entries(folder_fd, prefix)))]
        try:
            while levels:
                self._check()
                entry = next(levels[-1][1], None)
                if entry is None:
                    os.close(levels.pop()[0])
                elif stat.S_ISDIR(entry.status.st_mode):
                    folder_fd = open_folder(entry)
                    levels.append((folder_fd, iter(entries(folder_fd, entry.path + b"/"))))
                    header = _header(entry, entry.path + b"/", DIRECTORY)
                    self._put(tarwriter.encode(_with_xattrs(header, folder_fd)))
                else:
                    self._leaf(entry)
        finally:
            for folder_fd, _ in levels:
                os.close(folder_fd)

    def _leaf(self, entry: Entry) -> None:
        status = entry.status
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            return
        inode = (status.st_dev, status.st_ino)
        if status.st_nlink > 1:
            first = self._linked.setdefault(inode, entry.path)
            if first != entry.path:
                place = f"/proc/self/fd/{entry.parent_fd}/{os.fsdecode(entry.name)}"
                uid, gid = ownership.owner_of(place, status)
                header = _header(entry, entry.path, LINK)
                header = header._replace(target=first, uid=uid, gid=gid)
                header = header._replace(mode=ownership.mode_of(place, status))
                self._put(tarwriter.encode(header))
                return
        if kind == stat.S_IFREG:
            self._file(entry)
        elif kind == stat.S_IFLNK:
            target = os.readlink(entry.name, dir_fd=entry.parent_fd)
            header = _header(entry, entry.path, SYMLINK)._replace(target=target)
            self._put(tarwriter.encode(header))
        else:
            header = _header(entry, entry.path, _SPECIAL[kind])
            if kind != stat.S_IFIFO:
                device = status.st_rdev
                header = header._replace(major=os.major(device), minor=os.minor(device))
            self._put(tarwriter.encode(header))

    def _file(self, entry: Entry) -> None:
        size = entry.status.st_size
        fd = open_file(entry)
        try:
            header = _header(entry, entry.path, REGULAR)._replace(size_bytes=size)
            self._put(tarwriter.encode(_with_xattrs(header, fd)))
            left = size
            while left and (chunk := os.read(fd, min(left, _CHUNK_BYTES))):
                left -= len(chunk)
                self._put(chunk)
        finally:
            os.close(fd)
        if left:
            raise StoreError(f"write tar: /{os.fsdecode(entry.path)} shrank while it was read")
        self._put(tarwriter.padding(size))

    def _put(self, data: bytes) -> None:
        _put(self._dest, data)


def _put(dest: BinaryIO, data: bytes) -> None:
    written = dest.write(data)
    while written < len(data):  # a raw file or pipe may take less at once
        written += dest.write(data[written:])


def _header(entry: Entry, name: bytes, kind: bytes) -> Header:
    status = entry.status
    mode, uid, gid, _ = ownership.taken_from((), status)
    return Header(name, kind, mode, uid, gid, 0, status.st_mtime_ns // _NANO)


def _with_xattrs(header: Header, fd: int) -> Header:
    mode, uid, gid, xattrs = ownership.taken_from(tuple(read_xattrs(fd).items()), os.fstat(fd))
    return header._replace(mode=mode, uid=uid, gid=gid, xattrs=xattrs)
