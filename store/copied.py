"""Snapshots where overlay cannot be mounted: a whole copy of the chain, and what changed in it.

What is as it was copied is known by inode and change time, which nobody can set back. At commit
all of that goes, and deletions get overlay's marks: what is left is what the upper directory of an
overlay would have been.
"""

import contextlib
import os
import stat
from collections.abc import Iterator

from store import ownership
from store.linux import birth_ns, copy_file
from store.overlay import PREFIXES, Merged, make_whiteout, opaque_mark

# Inode, change time (of a directory: birth), and of a directory what else of it counts.
Copied = dict[bytes, tuple[int, int, tuple[object, ...]]]

_KERNELS = ("security.selinux", "security.ima", "security.evm", "trusted.")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source: Merged, target: bytes) -> Copied:
    """Copy what `source` shows into the empty directory `target`; return how to know it again.

    Hard links within a layer stay links. Raises OSError.
    """
    copied: Copied = {}
    _copy_directory(source, target, b"", {}, copied)
    # Times last, when nothing is made any more; a link changes those of its file.
    for path in list(copied):
        copied[path] = _state(b"%b/%b" % (target, path))
    return copied


def _copy_directory(
    source: Merged,
    target: bytes,
    inside: bytes,
    links: dict[tuple[int, int], bytes],
    copied: Copied,
) -> None:
    for name in source.names():
        status, place = source.stat(name), b"%b/%b" % (target, name)
        assert status is not None
        origin, path = source.place(name), inside + name
        first = links.setdefault((status.st_dev, status.st_ino), place)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(place, 0o700)
            _copy_directory(source.enter(name), place, path + b"/", links, copied)
        elif first != place:
            os.link(first, place, follow_symlinks=False)
            copied[path] = (0, 0, ())
            continue
        else:
            _copy_file(origin, status, place)
        copy_all_attributes(origin, status, place)
        copied[path] = (0, 0, ())


def _copy_file(origin: bytes, status: os.stat_result, place: bytes) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(origin), place)
        return
    if kind != stat.S_IFREG:
        os.mknod(place, kind | 0o600, status.st_rdev)
        return
    reading = os.open(origin, _READ)
    try:
        writing = os.open(place, _CREATE, 0o600)
        try:
            copy_file(reading, writing, status.st_size)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def copy_all_attributes(origin: bytes, status: os.stat_result, place: bytes) -> None:
    """Give `place` owner, mode, xattrs and times of a file or directory elsewhere."""
    ownership.give(place, *ownership.owner_of(origin, status))
    for name in os.listxattr(origin, follow_symlinks=False):
        if not name.startswith((*PREFIXES, *_KERNELS)):
            value = os.getxattr(origin, name, follow_symlinks=False)
            with contextlib.suppress(PermissionError):  # a capability, without the right to give it
                os.setxattr(place, name, value, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(place, stat.S_IMODE(status.st_mode))
    times = status.st_atime_ns, status.st_mtime_ns
    os.utime(place, ns=times, follow_symlinks=False)


def keep_changes(tree: bytes, below: Merged, copied: Copied) -> None:
    """Leave in `tree` what is not as it was copied, as overlay's upper directory would have it.

    copied: what `copy_tree` of `below` returned. Raises OSError.
    """
    before = os.lstat(tree)
    _keep(tree, b"", below, copied)
    os.utime(tree, ns=(before.st_atime_ns, before.st_mtime_ns))


def _keep(tree: bytes, inside: bytes, below: Merged, copied: Copied) -> bool:
    """Do it for one directory; tell whether anything is left in it."""
    same: list[tuple[bytes, bool]] = []
    left = False
    seen = set()
    for name, place, status in _entries(tree):
        if stat.S_ISSOCK(status.st_mode):
            os.unlink(place)  # no layer can hold it: what it stands in the place of is gone
            continue
        seen.add(name)
        is_directory = stat.S_ISDIR(status.st_mode)
        is_same = _keep_directory if is_directory else _is_same_file
        if is_same(name, place, inside, status, below, copied):
            same.append((place, is_directory))
        else:
            left = True
    for name in below.names():
        if name not in seen:
            make_whiteout(b"%b/%b" % (tree, name))
            left = True
    for place, is_directory in same:
        os.rmdir(place) if is_directory else os.unlink(place)
    return left


def _is_same_file(
    name: bytes, place: bytes, inside: bytes, _: os.stat_result, below: Merged, copied: Copied
) -> bool:
    state = copied.get(inside + name)
    return state is not None and (state == _state(place) or _is_equal(below, name, place))


def _keep_directory(
    name: bytes, place: bytes, inside: bytes, status: os.stat_result, below: Merged, copied: Copied
) -> bool:
    """Keep what changed in a directory; tell whether nothing did, in it or of itself."""
    state = copied.get(inside + name)
    # A directory made anew may well have the inode of the one that it replaces.
    if state is None or state[:2] != (status.st_ino, birth_ns(place)):
        if below.enter(name).exists():
            os.setxattr(place, opaque_mark(), b"y")
        return False
    left = _keep(place, inside + name + b"/", below.enter(name), copied)
    if not left and state[2] == _kept_of(place, status):
        return True
    os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
    return False


def _entries(tree: bytes) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    """Yield name, path and lstat of what is in a directory now."""
    with os.scandir(tree) as entries:
        found = [(entry.name, entry.path, entry.stat(follow_symlinks=False)) for entry in entries]
    yield from found


def _state(place: bytes) -> tuple[int, int, tuple[object, ...]]:
    status = os.lstat(place)
    if stat.S_ISDIR(status.st_mode):
        return status.st_ino, birth_ns(place), _kept_of(place, status)
    return status.st_ino, status.st_ctime_ns, ()


def _kept_of(place: bytes, status: os.stat_result) -> tuple[object, ...]:
    """Return what of a directory is its own: a change of it is a change of the directory."""
    own = status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns
    return *own, tuple(sorted(_xattrs(place).items()))


def _is_equal(below: Merged, name: bytes, place: bytes) -> bool:
    """Tell whether a file says all that the one below says: its links alone have changed."""
    there, here = below.stat(name), os.lstat(place)
    if there is None or _said(there) != _said(here):
        return False
    origin = below.place(name)
    if _xattrs(origin) != _xattrs(place):
        return False
    if ownership.owner_of(origin, there) != ownership.owner_of(place, here):
        return False
    if stat.S_ISLNK(here.st_mode):
        return os.readlink(origin) == os.readlink(place)
    return not stat.S_ISREG(here.st_mode) or _same_bytes(origin, place)


def _said(status: os.stat_result) -> tuple[int, ...]:
    times = status.st_mtime_ns
    return status.st_mode, status.st_uid, status.st_gid, status.st_size, times, status.st_rdev


def _xattrs(place: bytes) -> dict[str, bytes]:
    names = os.listxattr(place, follow_symlinks=False)
    return {
        name: os.getxattr(place, name, follow_symlinks=False)
        for name in names
        if not name.startswith((*PREFIXES, *_KERNELS))
    }


def _same_bytes(one: bytes, other: bytes) -> bool:
    with open(one, "rb") as first, open(other, "rb") as second:
        while True:
            data = first.read(1 << 18)
            if data != second.read(1 << 18):
                return False
            if not data:
                return True
