"""Deleting trees: by descriptors, whatever the names, the depth or the modes; now or later.

Run as a program (`trash.py FOLDER`) it empties the folder with nobody waiting: it imports only what
every interpreter has.
"""

import contextlib
import os
import stat
import sys
import threading
from collections.abc import Callable

_PATIENCE_S = 0.2
_KEPT_OPEN = 64  # levels whose descriptors stay open; deeper ones are reopened through ".."
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


Stop = Callable[[], bool]


def never() -> bool:
    """Let a deletion go on to its end."""
    return False


def delete_tree(path: str, stop: Stop = never) -> int:
    """Delete `path` and everything below it; what is already gone is fine. Raises OSError.

    Symlinks are deleted, never followed. stop: asked once a directory; true leaves the rest.
    Returns the bytes of the files that are gone with it.
    """
    parent_fd = os.open(os.path.dirname(path) or ".", _DIRECTORY)
    try:
        return delete_at(parent_fd, os.path.basename(path), stop)
    finally:
        os.close(parent_fd)


def empty(folder: str, stop: Stop = never) -> int:
    """Delete all that is in `folder`, and return the bytes. Raises OSError."""
    return sum(delete_tree(f"{folder}/{name}", stop) for name in os.listdir(folder))


def delete_at(dir_fd: int, name: str, stop: Stop = never) -> int:
    """Delete `name` in an open directory, as delete_tree does."""
    freed = _Freed()
    # Others may be deleting the same: where they took something from under us, look again.
    while True:
        with contextlib.suppress(FileNotFoundError):
            if _unlinked(dir_fd, name, freed) or not _delete_below(dir_fd, name, stop, freed):
                return freed.count
            os.rmdir(name, dir_fd=dir_fd)
            return freed.count


class _Freed:
    """Counts the bytes of files whose last name goes."""

    def __init__(self) -> None:
        self.count = 0

    def unlink(self, dir_fd: int, name: str) -> None:
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        os.unlink(name, dir_fd=dir_fd)
        if found.st_nlink == 1 and stat.S_ISREG(found.st_mode):
            self.count += found.st_size


def _unlinked(dir_fd: int, name: str, freed: _Freed) -> bool:
    """Unlink what is no directory; False for a directory."""
    try:
        freed.unlink(dir_fd, name)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        # Linux says EISDIR, POSIX EPERM; a directory is told by looking.
        if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            raise
        return False
    return True


def _open_directory(dir_fd: int, name: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=dir_fd)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=dir_fd)
        return os.open(name, _DIRECTORY, dir_fd=dir_fd)


def _subdirectories(dir_fd: int, freed: _Freed) -> list[str]:
    """Unlink all that is no directory in `dir_fd` and return the names of the rest."""
    rest = []
    with os.scandir(dir_fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                rest.append(entry.name)
            else:
                with contextlib.suppress(FileNotFoundError):
                    freed.unlink(dir_fd, entry.name)
    return rest


def _delete_below(parent_fd: int, name: str, stop: Stop, freed: _Freed) -> bool:
    top = _open_directory(parent_fd, name)
    levels: list[tuple[int, list[str]]] = [(top, _subdirectories(top, freed))]
    try:
        while levels:
            if stop():
                return False
            here, names = levels[-1]
            if names:
                below = _open_directory(here, names[-1])
                levels.append((below, _subdirectories(below, freed)))
                _close_far_level(levels)
                continue
            levels.pop()
            if levels:
                _return_to_parent(levels, here)
            os.close(here)
        return True
    finally:
        for fd, _ in levels:
            if fd >= 0:
                os.close(fd)


def _close_far_level(levels: list[tuple[int, list[str]]]) -> None:
    if len(levels) > _KEPT_OPEN:
        far, names = levels[-_KEPT_OPEN - 1]
        os.close(far)
        levels[-_KEPT_OPEN - 1] = (-1, names)


def _return_to_parent(levels: list[tuple[int, list[str]]], child_fd: int) -> None:
    fd, names = levels[-1]
    if fd < 0:
        fd = os.open("..", _DIRECTORY, dir_fd=child_fd)
        levels[-1] = (fd, names)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(names[-1], dir_fd=fd)
    names.pop()


class Deleter:
    """Empties a trash folder behind the caller's back.

    A disk may take seconds for what a build throws away. What is left at the end of the process
    another one deletes, which nobody waits for; if that dies too, the next deleter or the next
    garbage collection does.
    """

    def __init__(self, trash: str) -> None:
        self._trash = trash
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to delete, unless it is going on already."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._stopped.clear()
                self._thread = threading.Thread(target=self._run, name="trash", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Leave the rest for another time."""
        with self._lock:
            self._stopped.set()
            if self._thread is not None:
                self._thread.join()
                self._thread = None

    def finish(self, patience_s: float = _PATIENCE_S) -> None:
        """Wait for `patience_s` at most, and leave the rest to a process of its own."""
        thread = self._thread
        if thread is None:
            return
        thread.join(patience_s)
        is_late = thread.is_alive()
        self.stop()
        if is_late:
            with contextlib.suppress(OSError):  # then the next garbage collection
                _empty_detached(self._trash)

    def _run(self) -> None:
        # Whatever goes wrong here, the next garbage collection meets it again and reports it.
        with contextlib.suppress(OSError):
            while not self._stopped.is_set() and (names := os.listdir(self._trash)):
                for name in names:
                    delete_tree(f"{self._trash}/{name}", self._stopped.is_set)


def _empty_detached(trash: str) -> None:
    """Let a process that outlives this one empty `trash`. Raises OSError.

    This process may have threads, so it does not fork; the new one forks itself, so that nobody
    has to wait for its end.
    """
    if not sys.executable:
        return
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    command = [sys.executable, "-I", "-S", os.path.abspath(__file__), os.path.abspath(trash)]
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=null)
    os.waitpid(pid, 0)


def _detached(trash: str) -> None:
    """Empty `trash` as a process in its own session that holds nothing of its maker's open."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # that of the listing
                os.close(int(name))
    os.chdir("/")
    if os.fork():
        return
    os.setsid()
    with contextlib.suppress(OSError):
        while os.listdir(trash):
            empty(trash)


if __name__ == "__main__":
    _detached(sys.argv[1])
