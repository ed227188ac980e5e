"""Overlay mounts that are attached nowhere, from 1 to hundreds of lower directories.

The kernel stacks 500 of them (OVL_MAX_STACK), and an overlay once on an overlay: the lowest of more
become one, the floor, that the others stand on. Only the lowest, for nothing below them is left
that their deletions could still have to hide.

Imported by launchers, which are bare interpreters: nothing here but the C library and os.
"""

import errno
import os

from runtime.linux import constants as c
from runtime.linux import mount as m
from runtime.linux.namespaces import unshare

# Always said, never left to the host's module options: with metacopy a layer's file can show
# another image's data, with redirect_dir a layer means nothing without those below it, and an
# index ties a work directory to one mount.
FIXED = (("metacopy", "off"), ("redirect_dir", "off"), ("index", "off"))

# An overlay mount takes one page of options in the old call, 256 bytes a value in the new one.
_PAGE = os.sysconf("SC_PAGE_SIZE")
# How many lower directories stand on a floor; in the old call they have to fit in the page.
_ABOVE, _ABOVE_BY_MOUNT = 480, 400


# With xattrs of the class `user.` the kernel takes no other word than this for "not followed".
_FIXED_USER = (("redirect_dir", "nofollow"), ("index", "off"))


def _fixed(flags: "list[str]") -> "tuple[tuple[str, str], ...]":
    return _FIXED_USER if "userxattr" in flags else FIXED


def _release() -> "tuple[int, int]":
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(digit for digit in minor if digit.isdigit()) or 0)


# Asked by version and not by trying: each try would leave a line in the kernel's log.
_HAS_LOWERDIR_PLUS = _release() >= (6, 8)


def directory(path: str, read_only: bool, *, recursive: bool = False, propagation: int = 0) -> int:
    """Return a detached copy of the directory `path`; of the mounts below it where `recursive`."""
    tree = m.open_tree(c.AT_FDCWD, path, c.OPEN_TREE_CLONE | (c.AT_RECURSIVE if recursive else 0))
    try:
        # A clone of a shared mount is a peer of it: nothing mounted here may travel out.
        attributes = c.MOUNT_ATTR_RDONLY if read_only else 0
        m.mount_setattr(tree, attributes, 0, propagation or c.MS_PRIVATE, recursive)
    except OSError:
        os.close(tree)
        raise
    return tree


def overlay(
    lowers: "list[str] | tuple[str, ...]", upper: str | None, work: str | None, flags: "list[str]"
) -> int:
    """Return a detached overlay of `lowers` (topmost first) under `upper`.

    Paths are relative to the working directory, or absolute. Without `upper` it is read-only.
    flags: options without a value, as `volatile`.
    Raises OSError with EINVAL where the kernel has no `lowerdir+` (before 6.8).
    """
    if not _HAS_LOWERDIR_PLUS:
        raise OSError(errno.EINVAL, "fsconfig: no lowerdir+", "overlay")
    if len(lowers) > _ABOVE:
        check_height(lowers, 2 * _ABOVE)
        below = lowers[_ABOVE:]
        floor = (
            _stack(below, None, None, _kept(flags)) if len(below) > 1 else directory(below[0], True)
        )
        try:
            on_floor = [*lowers[:_ABOVE], f"/proc/self/fd/{floor}"]
            return _stack(on_floor, upper, work, flags)
        finally:
            os.close(floor)
    return _stack(lowers, upper, work, flags)


def _kept(flags: "list[str]") -> "list[str]":
    """Return the flags that a floor takes too, which is never written to."""
    return [flag for flag in flags if flag != "volatile"]


def check_height(lowers: "list[str] | tuple[str, ...]", most: int) -> None:
    """Raise OSError E2BIG when there are more layers than can be stacked."""
    if len(lowers) > most:
        raise OSError(errno.E2BIG, f"overlay: {len(lowers)} layers, at most {most} can be stacked")


def _stack(
    lowers: "list[str] | tuple[str, ...]", upper: str | None, work: str | None, flags: "list[str]"
) -> int:
    options: list[tuple[str, str | None]] = [("lowerdir+", lower) for lower in lowers]
    if upper is not None:
        options += [("upperdir", upper), ("workdir", work)]
    options += _fixed(flags)
    options += [(flag, None) for flag in flags]
    attributes = 0 if upper is not None else c.MOUNT_ATTR_RDONLY
    return m.make_detached("overlay", "overlay", options, attributes)


def leave_mount_namespace() -> None:
    """Put the calling thread into a private copy of its mount namespace, for good."""
    unshare(c.CLONE_NEWNS)
    m.mount("", "/", None, c.MS_REC | c.MS_PRIVATE, None)


def overlay_by_mount(
    lowers: "list[str] | tuple[str, ...]", upper: str | None, work: str | None, flags: "list[str]"
) -> int:
    """Do the same as `overlay` with mount(2), for kernels that lack `lowerdir+`.

    The mount passes through a path, the working directory, so the calling thread must be in a
    mount namespace of its own (`leave_mount_namespace`).
    """
    if len(lowers) == 1 and upper is None:
        return directory(lowers[0], read_only=True)
    if len(lowers) > _ABOVE_BY_MOUNT:
        # Its mount point is the lowest layer's own directory, in this namespace, which goes soon.
        check_height(lowers, 2 * _ABOVE_BY_MOUNT)
        floor = lowers[-1]
        if len(lowers) > _ABOVE_BY_MOUNT + 1:
            _mount_on(floor, lowers[_ABOVE_BY_MOUNT:], None, None, _kept(flags))
        lowers = [*lowers[:_ABOVE_BY_MOUNT], floor]
    _mount_on(".", lowers, upper, work, flags)
    # "." still means the covered directory; an absolute look-up finds what covers it.
    top = os.getcwd()
    try:
        return m.open_tree(c.AT_FDCWD, top, c.OPEN_TREE_CLONE)
    finally:
        m.umount2(top, c.MNT_DETACH)


def _mount_on(
    place: str,
    lowers: "list[str] | tuple[str, ...]",
    upper: str | None,
    work: str | None,
    flags: "list[str]",
) -> None:
    escaped = [x.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,") for x in lowers]
    data = (
        ",".join(f"{key}={value}" for key, value in _fixed(flags))
        + ",lowerdir="
        + ":".join(escaped)
    )
    if upper is not None:
        data += f",upperdir={upper},workdir={work}"
    data += "".join(f",{flag}" for flag in flags)
    if len(os.fsencode(data)) >= _PAGE:
        raise OSError(errno.E2BIG, f"mount: {len(lowers)} lower directories do not fit", "overlay")
    m.mount("overlay", place, "overlay", 0 if upper is not None else c.MS_RDONLY, data)


def lowerdir_plus_missing(error: OSError) -> bool:
    """Tell whether `overlay` failed because this kernel does not know `lowerdir+`.

    EINVAL has other causes too (a work directory on another file system): the old call then
    fails in the same way and says so.
    """
    return error.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM)
