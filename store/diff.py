"""From an upper directory to a layer: its tree made canonical, its tar's digest, its header stream.

One walk, sorted by name, does it all, so the tar does not depend on the order of the disk. What a
tar cannot say leaves the tree too, so that a layer built here and the same layer pulled are the
same. Follows containerd's archive writer; the opaque mark is the OCI one (image-spec layer.md,
"Whiteouts"). Never mounts, never knows what ran.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import Protocol

from store import ownership
from store.errors import NotStorable, StoreError
from store.filling import Filling
from store.headers import HeaderWriter
from store.overlay import PREFIXES, Merged, elsewhere_marks, is_whiteout, opaque_mark
from store.tarstream import TarSink
from store.tarwriter import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    END,
    FIFO,
    LINK,
    REGULAR,
    SYMLINK,
    Header,
    encode,
    padding,
)
from values.classes import dataclass, field

WHITEOUT = b".wh."
OPAQUE_NAME = b".wh..wh..opq"

_NANO = 1_000_000_000
_KEPT_OPEN = 64  # levels whose descriptors stay open; deeper ones are reopened through ".."
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME
_SPECIAL = {stat.S_IFCHR: CHARACTER, stat.S_IFBLK: BLOCK, stat.S_IFIFO: FIFO}


class Watcher(Protocol):
    """Is shown all that becomes a layer, on its way there."""

    def entry(
        self, name: bytes, target: bytes, xattrs: tuple[tuple[bytes, bytes], ...]
    ) -> Callable[[bytes], None]:
        """Take an entry before its bytes; what comes back is called with those of a file."""

    def finish(self) -> None:
        """All was shown. What is raised here refuses the layer."""


@dataclass(slots=True)
class Summary:
    """What a walk found: counts, the paths of whiteouts, and what was left out and why."""

    files: int = 0
    content_bytes: int = 0
    newest_s: int = 0
    whiteouts: list[bytes] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Level:
    """One open directory of the walk."""

    fd: int
    path: bytes  # relative to the top, ends with a slash; empty at the top
    below: Merged
    status: os.stat_result
    names: Iterator[tuple[bytes, os.stat_result]] = field(default_factory=lambda: iter(()))
    changed: bool = False


def write_layer(  # noqa: PLR0913  where from, where to, and who looks on
    upper_fd: int,
    below: Merged,
    sink: TarSink,
    headers: HeaderWriter,
    watcher: Watcher | None = None,
    filling: Filling | None = None,
    *,
    of_copy: bool = False,
) -> Summary:
    """Make the tree below `upper_fd` canonical and stream its tar.

    below: what the chain under it shows, to tell real whiteouts from idle ones. watcher: is shown
    everything; that it has seen all is for the caller to say. filling: what comes into an empty
    directory of the tree, when it is its turn. of_copy: the tree is what was left of a copy, where
    sockets may be whiteouts.
    Raises StoreError, NotStorable for what no layer can hold, OSError, and what a filling raises.
    """
    return _Walk(below, sink, headers, watcher, filling, of_copy=of_copy).run(upper_fd)


class _Walk:
    def __init__(
        self,
        below: Merged,
        sink: TarSink,
        headers: HeaderWriter,
        watcher: Watcher | None,
        filling: Filling | None,
        *,
        of_copy: bool,
    ) -> None:
        self._of_copy = of_copy
        self._below = below
        self._sink = sink
        self._headers = headers
        self._watcher = watcher
        self._filling = filling
        self._seen: Callable[[bytes], None] | None = None
        self._links: dict[tuple[int, int], bytes] = {}
        self._levels: list[_Level] = []
        self.summary = Summary()

    def run(self, upper_fd: int) -> Summary:
        top = _Level(os.dup(upper_fd), b"", self._below, os.fstat(upper_fd))
        self._levels.append(top)
        try:
            _plain_root(top.fd)
            self._list(top)
            while self._levels:
                entry = next(self._levels[-1].names, None)
                if entry is None:
                    self._leave()
                else:
                    self._visit(self._levels[-1], *entry)
        finally:
            for level in self._levels:
                if level.fd >= 0:
                    os.close(level.fd)
        self._raw(END)
        return self.summary

    def _list(self, level: _Level) -> None:
        with os.scandir(level.fd) as entries:
            found = [(os.fsencode(e.name), e.stat(follow_symlinks=False)) for e in entries]
        found.sort(key=lambda item: item[0])
        level.names = iter(found)

    def _visit(self, level: _Level, name: bytes, status: os.stat_result) -> None:
        path = level.path + name
        _refuse_mark(name, path)
        kind = stat.S_IFMT(status.st_mode)
        if is_whiteout(status) and (self._of_copy or kind != stat.S_IFSOCK):
            self._whiteout(level, name, path)
        elif kind == stat.S_IFDIR:
            self._enter(level, name, path, status)
        elif kind == stat.S_IFSOCK:
            os.unlink(name, dir_fd=level.fd)
            level.changed = True
            self.summary.warnings.append(f"socket /{os.fsdecode(path)} is not kept in the layer")
        elif status.st_nlink > 1 and self._linked(level, name, path, status):
            pass
        elif kind == stat.S_IFREG:
            self._file(level, name, path, status)
        else:
            self._special(level, name, path, status)

    def _whiteout(self, level: _Level, name: bytes, path: bytes) -> None:
        """Keep the mark of a deletion only where there is something to delete."""
        if level.below.stat(name) is None:
            os.unlink(name, dir_fd=level.fd)
            level.changed = True
            return
        self.summary.whiteouts.append(path)
        self._mark(level.path + WHITEOUT + name)

    def _mark(self, name: bytes) -> None:
        # Without a time: nobody reads it, and the same deletion should be the same layer.
        self._emit(Header(name, REGULAR))

    def _linked(self, level: _Level, name: bytes, path: bytes, status: os.stat_result) -> bool:
        first = self._links.setdefault((status.st_dev, status.st_ino), path)
        if first == path:
            return False
        place = f"/proc/self/fd/{level.fd}/{os.fsdecode(name)}"
        uid, gid = ownership.owner_of(place, status)
        header = _header(path, LINK, status)._replace(target=first, uid=uid, gid=gid)
        self._emit(header._replace(mode=ownership.mode_of(place, status)))
        return True

    def _enter(self, level: _Level, name: bytes, path: bytes, status: os.stat_result) -> None:
        fd = os.open(name, _OPEN_DIRECTORY, dir_fd=level.fd)
        inner = _Level(fd, path + b"/", level.below.enter(name), status)
        self._levels.append(inner)
        far = len(self._levels) - _KEPT_OPEN
        if far > 0 and self._levels[far - 1].fd >= 0:
            os.close(self._levels[far - 1].fd)
            self._levels[far - 1].fd = -1
        xattrs, opaque = _xattrs(fd, path, self.summary)
        self._emit(_header(inner.path, DIRECTORY, status, 0, xattrs))
        if opaque and inner.below.exists():
            self._mark(inner.path + OPAQUE_NAME)
        elif opaque:
            os.removexattr(fd, opaque_mark())
        if opaque:
            inner.below = Merged()
        if self._filling is not None and inner.path == self._filling.path + b"/":
            self._fill(inner, self._filling)
        else:
            self._list(inner)

    def _fill(self, level: _Level, filling: Filling) -> None:
        """Have a directory filled, and write what comes into it."""
        if os.listdir(level.fd):
            raise StoreError(f"commit layer: /{os.fsdecode(level.path)} is to be filled, not empty")
        level.changed = True  # all that comes in sets its time
        for header, body in filling.make(level.fd):
            if WHITEOUT in header.name:
                _refuse_mark(header.name.rstrip(b"/").rpartition(b"/")[2], header.name)
            self._emit(header)
            if header.size_bytes:
                self._body(header.name, header.size_bytes, body)

    def _leave(self) -> None:
        """Set the directory's time, now that nothing in it changes any more, and go up."""
        level = self._levels.pop()
        if self._levels:
            parent = self._levels[-1]
            if parent.fd < 0:
                parent.fd = os.open("..", _OPEN_DIRECTORY, dir_fd=level.fd)
            if level.changed or level.status.st_mtime_ns % _NANO:
                os.utime(level.fd, ns=_times(level.status))
        else:
            os.utime(level.fd, ns=(0, self.summary.newest_s * _NANO))
        os.close(level.fd)

    def _file(self, level: _Level, name: bytes, path: bytes, status: os.stat_result) -> None:
        fd = os.open(name, _OPEN_FILE, dir_fd=level.fd)
        try:
            xattrs, _ = _xattrs(fd, path, self.summary)
            size = status.st_size
            self._emit(_header(path, REGULAR, status, size, xattrs))
            if size:
                self._body(path, size, fd)
            if status.st_mtime_ns % _NANO:
                os.utime(fd, ns=_times(status))
        finally:
            os.close(fd)

    def _body(self, path: bytes, size: int, body: bytes | int) -> None:
        """Write a file's bytes, given or read from a descriptor."""
        self._headers.data(path, 0, size)
        if isinstance(body, bytes):
            written = len(body)
            if self._seen is not None:
                self._seen(body)
            self._sink.write(body)
        else:
            written = self._sink.copy(body, size, self._seen)
        if written != size:
            raise StoreError(f"commit layer: /{os.fsdecode(path)} changed while it was read")
        self._raw(padding(size))
        self.summary.content_bytes += size

    def _special(self, level: _Level, name: bytes, path: bytes, status: os.stat_result) -> None:
        kind = stat.S_IFMT(status.st_mode)
        _strip(f"/proc/self/fd/{level.fd}/{os.fsdecode(name)}")
        if kind == stat.S_IFLNK:
            target = os.readlink(name, dir_fd=level.fd)
            header = _header(path, SYMLINK, status)._replace(target=target)
        else:
            header = _header(path, _SPECIAL[kind], status)
            if kind != stat.S_IFIFO:
                device = status.st_rdev
                header = header._replace(major=os.major(device), minor=os.minor(device))
        self._emit(header)
        if status.st_mtime_ns % _NANO:
            os.utime(name, ns=_times(status), dir_fd=level.fd, follow_symlinks=False)

    def _emit(self, header: Header) -> None:
        self.summary.files += 1
        if b"/" not in header.name.rstrip(b"/") and not header.name.startswith(WHITEOUT):
            self.summary.newest_s = max(self.summary.newest_s, header.mtime_s)
        if self._watcher is not None:
            self._seen = self._watcher.entry(header.name, header.target, header.xattrs)
        self._raw(encode(header))

    def _raw(self, data: bytes) -> None:
        self._headers.raw(data)
        self._sink.write(data)


def _refuse_mark(name: bytes, path: bytes) -> None:
    if name.startswith(WHITEOUT):
        raise NotStorable(
            f"commit layer: /{os.fsdecode(path)}: a name beginning .wh. means deletion",
            hint="rename or remove it in the same step",
        )


def _plain_root(fd: int) -> None:
    """Make the top what it is for every other layer: the tar has no entry for it.

    A changed mode of / is lost, as in containerd.
    """
    ownership.give(fd, 0, 0)
    os.fchmod(fd, 0o755)
    for name in os.listxattr(fd):
        if not name.startswith("security."):
            os.removexattr(fd, name)


def _header(
    name: bytes,
    kind: bytes,
    status: os.stat_result,
    size_bytes: int = 0,
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
) -> Header:
    mode, uid, gid, xattrs = ownership.taken_from(xattrs, status)
    return Header(
        name,
        kind,
        mode,
        uid,
        gid,
        size_bytes,
        _seconds(status),
        xattrs=xattrs,
    )


def _seconds(status: os.stat_result) -> int:
    return status.st_mtime_ns // _NANO


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_atime_ns, _seconds(status) * _NANO


def _xattrs(fd: int, raw: bytes, summary: Summary) -> tuple[tuple[tuple[bytes, bytes], ...], bool]:
    """Return the xattrs that a layer carries, and whether the directory is opaque.

    All others but the kernel's own security labels are taken off the disk: a tar would lose them.
    """
    names = os.listxattr(fd)
    if not names:
        return (), False
    path = os.fsdecode(raw)
    kept: list[tuple[bytes, bytes]] = []
    opaque = False
    for name in sorted(names):
        if name == opaque_mark():
            opaque = os.getxattr(fd, name) == b"y"
        elif name == "security.capability" or _is_ours_to_keep(name):
            kept.append((os.fsencode(name), os.getxattr(fd, name)))
        elif name in elsewhere_marks():
            raise StoreError(
                f"commit layer: /{path} has {name}: its content lies in another layer",
                hint="the overlay was mounted without metacopy=off,redirect_dir=off",
            )
        elif not name.startswith("security."):
            if not name.startswith(PREFIXES):
                summary.warnings.append(f"xattr {name} of /{path} is not kept in the layer")
            os.removexattr(fd, name)
    return tuple(kept), opaque


def _is_ours_to_keep(name: str) -> bool:
    # A PAX record ends its key at the first equals sign.
    return name.startswith("user.") and not name.startswith(PREFIXES) and "=" not in name


def _strip(path: str) -> None:
    """Take overlay's and other trusted xattrs off a symlink, device or fifo."""
    for name in os.listxattr(path, follow_symlinks=False):
        if name.startswith("trusted."):
            with contextlib.suppress(FileNotFoundError):
                os.removexattr(path, name, follow_symlinks=False)
