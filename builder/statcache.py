"""Digests of a context's files, remembered between builds.

A remembered digest is trusted only for the very same state of a file (device, inode, size, mtime,
ctime), and only if those times were older than the moment of digesting by more than the file
system can tell apart: else a later write could leave the same stamp. A derived cache: it may be
lost or dropped at any time.
"""

import marshal
import os
import sys
import time

from builder import derived
from builder.looked import Stamp
from builder.tree import FileChanged, digest_file
from store.digest import digest_of

VERSION = (1, sys.version_info[:2])
_FINE_NS = 100_000_000  # kernel ticks are up to 10 ms
_COARSE_NS = 2_000_000_000  # file systems that keep whole seconds only
_UNTRUSTED = ("fuse", "9p", "nfs", "cifs", "smb", "virtiofs", "ceph")


class StatCache:
    """Remembers digests by path; `save` writes them when any is new."""

    def __init__(self, folder: str, tree_path: str) -> None:
        """Open the cache of the tree at `tree_path`, kept in `folder`."""
        real = os.path.realpath(tree_path)
        name = digest_of(os.fsencode(real)).removeprefix("sha256:")
        self._path = os.path.join(folder, f"{name}.stat")
        self.is_trusted = can_be_trusted(file_system_of(real))
        self._known: dict[str, tuple[Stamp, str]] = self._load() if self.is_trusted else {}
        self._fresh: dict[str, tuple[Stamp, str]] = {}
        self._changed = False

    def _load(self) -> dict[str, tuple[Stamp, str]]:
        data = derived.read(self._path)
        if data is None:
            return {}
        try:
            version, known = marshal.loads(data)
        except (ValueError, EOFError, TypeError):
            return {}  # another Python's
        return known if version == VERSION else {}

    def digest(self, path: str, name: str, stamp: Stamp) -> str:
        """Return the digest of a file's bytes.

        path: where to open it. name: its path in the tree. Raises FileChanged when it differs
        from `stamp` or changes while it is read.
        """
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            self._fresh[name] = known
            return known[1]
        began_ns = time.time_ns()
        digest, read_stamp = digest_file(path)
        if read_stamp != stamp:
            raise FileChanged(name)
        if is_settled(stamp, began_ns):
            self._fresh[name] = (stamp, digest)
            self._changed = True
        return digest

    def save(self) -> None:
        """Write what is remembered; losing it is no error."""
        if not (self.is_trusted and self._changed):
            return
        derived.write(self._path, marshal.dumps((VERSION, {**self._known, **self._fresh})))


def is_settled(stamp: Stamp, now_ns: int) -> bool:
    """Tell whether a file with this stamp cannot be written at `now_ns` and keep the stamp."""
    newest = max(stamp[3], stamp[4])
    coarse = stamp[3] % 1_000_000_000 == 0 and stamp[4] % 1_000_000_000 == 0
    return newest < now_ns - (_COARSE_NS if coarse else _FINE_NS)


def can_be_trusted(file_system: str) -> bool:
    """Tell whether inode numbers and ctimes of a file system type can be relied on."""
    return bool(file_system) and not file_system.startswith(_UNTRUSTED)


def file_system_of(path: str) -> str:
    """Return the type of the file system that holds an absolute path, "" if unknown.

    Source: proc(5), /proc/pid/mountinfo.
    """
    best, found = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                left, _, right = line.partition(" - ")
                point = left.split()[4].encode().decode("unicode_escape")
                prefix = point.rstrip("/") + "/"
                # Later lines are mounted over earlier ones, so an equal one wins.
                if f"{path}/".startswith(prefix) and len(prefix) >= len(best):
                    best, found = prefix, right.split()[0]
    except OSError:
        return ""
    return found
