"""Mount points: found inside the root, made where missing, taken away again afterwards.

A mount point that we make lands in the container's writable layer, so it is removed when the
container is gone, and the times of the directories that held it are put back.
"""

import errno
import os
import stat

from runtime.launch.resolve import open_in_root

_MAX_SYMLINKS = 40

# path below the root, is a directory, inode number, (atime_ns, mtime_ns) of the parent before
Stub = tuple[str, bool, int, tuple[int, int]]


def open_target(root: int, path: str, is_dir: bool, made: "list[Stub]", follow: bool = True) -> int:
    """Return an O_PATH descriptor of the mount point `path`, made first where it is missing.

    made: gets one entry for each file or directory made on the root's own file system.
    follow: False refuses every symlink on the way (ELOOP). A dangling one is followed to what it
    names, which is made.
    """
    try:
        return open_in_root(root, path, os.O_PATH, follow)
    except FileNotFoundError:
        pass
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(errno.EINVAL, "mount point contains '..'", path)
    if follow:
        parts = _followed(root, parts, path)
    for depth in range(1, len(parts) + 1):
        _make(root, parts[:depth], is_dir or depth < len(parts), made)
    return open_in_root(root, "/".join(parts), os.O_PATH, follow=False)


def _followed(root: int, parts: "list[str]", path: str) -> "list[str]":
    """Return where `parts` lead with their symlinks followed inside the root, dangling ones too."""
    done: list[str] = []
    todo = parts[::-1]
    links_left = _MAX_SYMLINKS
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        # Only a text is read here; what it leads to is opened so that it cannot lead out.
        try:
            target = os.readlink("/".join([*done, part]), dir_fd=root)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                raise
            done.append(part)
            continue
        if not links_left:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        links_left -= 1
        if target.startswith("/"):
            done.clear()
        todo += target.split("/")[::-1]
    return done


def _make(root: int, parts: "list[str]", is_dir: bool, made: "list[Stub]") -> None:
    parent = open_in_root(root, "/".join(parts[:-1]), os.O_RDONLY | os.O_DIRECTORY)
    try:
        before = os.fstat(parent)
        try:
            if is_dir:
                os.mkdir(parts[-1], 0o755, dir_fd=parent)
            else:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                os.close(os.open(parts[-1], flags, 0o644, dir_fd=parent))
        except FileExistsError:
            return
        times = (before.st_atime_ns, before.st_mtime_ns)
        if before.st_dev == os.fstat(root).st_dev:
            inode = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_ino
            made.append(("/".join(parts), is_dir, inode, times))
            os.utime(parent, ns=times)
    finally:
        os.close(parent)


def remove_stubs(root: int, made: "list[Stub]") -> None:
    """Remove those of `made` that are still ours and empty; never follow a symlink to them.

    What the container filled, replaced or removed stays as it left it.
    """
    for path, is_dir, inode, _ in reversed(made):
        head, _, name = path.rpartition("/")
        try:
            parent = open_in_root(root, head, os.O_RDONLY | os.O_DIRECTORY, follow=False)
        except OSError:
            continue  # the container moved its parent
        try:
            _remove(parent, name, is_dir, inode)
        except OSError:
            pass  # filled or replaced by the container
        finally:
            os.close(parent)


def _remove(parent: int, name: str, is_dir: bool, inode: int) -> None:
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if status.st_ino != inode:
        return
    before = os.fstat(parent)
    if is_dir and stat.S_ISDIR(status.st_mode):
        os.rmdir(name, dir_fd=parent)
    elif not is_dir and stat.S_ISREG(status.st_mode) and status.st_size == 0:
        os.unlink(name, dir_fd=parent)
    else:
        return
    os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))
