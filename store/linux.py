"""The Linux calls that storing needs and Python's os module lacks.

Thin wrappers that bear the system call's name. Imports nothing of ours.
"""

import contextlib
import errno
import fcntl
import os
import struct
import sys

from store import cdata

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME = 0x800
_STATX_BYTES, _BTIME_OFFSET = 256, 80  # of struct statx, linux/stat.h
_FICLONE = 0x40049409  # linux/fs.h; the same number on every architecture we know
# linux/fs.h, as x86, arm64 and riscv number them. The flag is ext4's, chattr(1) calls it T.
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_TOPDIR_FL = 0x00020000
_SYS_OPENAT2 = 437  # the same number on every architecture
_COPY_CHUNK = 1 << 30

_libc = cdata.CDLL(None, use_errno=True)


class _OpenHow(cdata.Structure):
    _fields_ = (
        ("flags", cdata.c_uint64),
        ("mode", cdata.c_uint64),
        ("resolve", cdata.c_uint64),
    )


class _StatxBuffer(cdata.Structure):
    _fields_ = (("data", cdata.c_uint64 * (_STATX_BYTES // 8)),)


def _failed(call: str, path: str | bytes) -> OSError:
    number = cdata.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}", path)


def openat2(dir_fd: int, path: str | bytes, flags: int, *, resolve: int, mode: int = 0) -> int:
    """Open `path` below `dir_fd` as openat2(2) does; the descriptor is close-on-exec.

    Retried on EAGAIN, which RESOLVE_BENEATH and RESOLVE_IN_ROOT give when a rename races.
    Raises OSError; ENOSYS or EPERM where the kernel or a seccomp filter refuses the call.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    raw = os.fsencode(path)
    while True:
        fd: int = _libc.syscall(
            _SYS_OPENAT2, dir_fd, cdata.c_char_p(raw), cdata.byref(how), cdata.sizeof(how)
        )
        if fd >= 0:
            return fd
        if cdata.get_errno() not in (errno.EAGAIN, errno.EINTR):
            raise _failed("openat2", path)


def open_beneath(dir_fd: int, path: str | bytes, flags: int) -> int:
    """Open `path` below `dir_fd` without following any symlink or leaving the directory.

    Falls back to a walk with O_PATH|O_NOFOLLOW where openat2 is not to be had. Raises OSError:
    ELOOP (or ENOTDIR, in the walk) for a symlink on the way, EXDEV for `..` and absolute paths.
    """
    try:
        return openat2(dir_fd, path, flags, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    return _walk_beneath(dir_fd, os.fsencode(path), flags)


def _walk_beneath(dir_fd: int, path: bytes, flags: int) -> int:
    if path.startswith(b"/") or b".." in path.split(b"/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    parts = [part for part in path.split(b"/") if part not in (b"", b".")] or [b"."]
    here = dir_fd
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            if here != dir_fd:
                os.close(here)
            here = below
        return os.open(parts[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    finally:
        if here != dir_fd:
            os.close(here)


def syncfs(fd: int) -> None:
    """Write everything of the file system that holds `fd` to disk.

    Since Linux 5.8 it reports a failed write-back that happened after `fd` was opened, so open it
    before the first write. Raises OSError.
    """
    if _libc.syncfs(fd) < 0:
        raise _failed("syncfs", str(fd))


def birth_ns(path: bytes) -> int:
    """Return when a file was made, 0 where its file system does not say. Raises OSError."""
    answer = _StatxBuffer()
    flags = _AT_SYMLINK_NOFOLLOW
    if _libc.statx(_AT_FDCWD, path, flags, _STATX_BTIME, cdata.byref(answer)) < 0:
        raise _failed("statx", path)
    (mask,) = struct.unpack_from("=I", answer)
    seconds, nanoseconds = struct.unpack_from("=qI", answer, _BTIME_OFFSET)
    return int(seconds) * 1_000_000_000 + int(nanoseconds) if mask & _STATX_BTIME else 0


def renameat2(source: str, target: str, flags: int) -> None:
    """Rename `source` to `target` with RENAME_NOREPLACE or RENAME_EXCHANGE. Raises OSError."""
    raw = os.fsencode(source), os.fsencode(target)
    if _libc.renameat2(_AT_FDCWD, raw[0], _AT_FDCWD, raw[1], cdata.c_uint(flags)) < 0:
        raise _failed("renameat2", target)


def ficlone(source_fd: int, target_fd: int) -> bool:
    """Share the bytes of `source_fd` with the empty file `target_fd`; False where impossible."""
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        return False
    return True


def copy_file(source_fd: int, target_fd: int, size_bytes: int) -> None:
    """Copy `size_bytes` from the start of one file to another, empty one.

    By reflink, else copy_file_range, else plain reads and writes; holes stay holes. The two files
    never share an inode. A source that ends early gives a shorter target. Raises OSError.
    """
    if size_bytes and ficlone(source_fd, target_fd):
        os.ftruncate(target_fd, size_bytes)
        return
    offset = 0
    while offset < size_bytes:
        data, hole = next_extent(source_fd, offset, size_bytes)
        if data < hole:
            _copy_extent(source_fd, target_fd, data, hole)
        offset = hole
    if size_bytes:
        end = min(size_bytes, os.fstat(source_fd).st_size)
        if os.fstat(target_fd).st_size < end:
            os.ftruncate(target_fd, end)


def next_extent(fd: int, offset: int, end: int) -> tuple[int, int]:
    """Return (start, stop) of the next run of data at or after `offset`, clipped to `end`.

    (end, end) means that only a hole is left. File systems without SEEK_DATA say all is data.
    """
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
        stop = os.lseek(fd, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end, end
        return offset, end
    return min(start, end), min(stop, end)


def _copy_extent(source_fd: int, target_fd: int, start: int, stop: int) -> None:
    while start < stop:
        try:
            count = os.copy_file_range(
                source_fd, target_fd, min(stop - start, _COPY_CHUNK), start, start
            )
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            count = 0
        # Some file systems answer 0 where they cannot copy (procfs, FUSE): read to be sure.
        if count == 0:
            block = os.pread(source_fd, min(stop - start, 1 << 20), start)
            if not block:
                return
            count = os.pwrite(target_fd, block, start)
        start += count


def spread_directories(path: str) -> None:
    """Have directories that are made in `path` lie apart on the disk, where that can be said.

    Else ext4 puts their files beside those deleted last, whose inodes it has to pass over for
    minutes: after 20,000 were deleted, making as many took ten times as long. Source: chattr(1),
    "T"; Linux fs/ext4/ialloc.c, recently_deleted.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without it
            flags = bytearray(8)
            fcntl.ioctl(fd, FS_IOC_GETFLAGS, flags)
            value = int.from_bytes(flags, sys.byteorder) | FS_TOPDIR_FL
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, value.to_bytes(8, sys.byteorder))
    finally:
        os.close(fd)
