"""Paths inside a root file system that is open but not ours to trust.

A symlink inside a root is followed as a process chrooted there would: absolute targets begin at
the root, `..` stops at it. Nothing else may be writing to the root meanwhile.
"""

import errno
import os
import stat
from collections.abc import Callable

from store import ownership

_MAX_LINKS = 255  # as BuildKit's fs.RootPath

Follow = Callable[[str, str], str]
"""How a path in a root is followed: `resolve`. Tests give one that leads out instead."""


def resolve(root: str, path: str) -> str:
    """Return `path` with its symlinks followed inside `root`, relative to it, without `..`.

    root: a directory's path, e.g. `/proc/self/fd/7`. Components that do not exist are kept as
    they are. The root itself is "". Raises OSError ELOOP past 255 links.
    """
    done: list[str] = []
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        if part in ("", "."):
            continue
        done.append(part)
        target = read_link(os.path.join(root, *done))
        if target is None:
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        done.pop()
        if target.startswith("/"):
            done.clear()
        todo.extend(reversed(target.split("/")))
    return "/".join(done)


def read_link(path: str) -> str | None:
    """Return the target of a symlink; None for anything else and for what does not exist."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def lstat(path: str) -> os.stat_result | None:
    """Return lstat(2) of `path`, or None where there is nothing."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_dir(path: str) -> bool:
    """Tell whether `path` is a directory, not a link to one."""
    status = lstat(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def make_dirs(
    root: str, path: str, mode: int, owner: tuple[int, int] | None, follow: Follow = resolve
) -> str:
    """Make the directory `path` and its missing parents; return where it really is.

    Links are followed inside the root, dangling ones too. New directories get `mode` and `owner`,
    and what a setgid directory gives to those made in it: always its bit, without an owner its
    group. Those that exist are left alone. Raises NotADirectoryError where a file is in the way.
    """
    real = follow(root, path)
    at = root
    for part in real.split("/") if real else ():
        at = f"{at}/{part}"
        try:
            os.mkdir(at, mode)
        except FileExistsError:
            if not is_dir(at):
                raise NotADirectoryError(
                    errno.ENOTDIR, os.strerror(errno.ENOTDIR), "/" + at[len(root) + 1 :]
                ) from None
            continue
        if owner is not None:
            ownership.give(at, *owner)
        ownership.set_mode(at, mode | os.lstat(at).st_mode & stat.S_ISGID)
    return real
