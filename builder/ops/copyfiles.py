"""Writing selected files into a root file system, by COPY's and ADD's rules.

The destination is the open root of a mounted snapshot that nobody else writes to. Each file is
checked to be what was digested, so that a layer is recorded under the key of the bytes really in
it. Source: Dockerfile reference, "COPY"; BuildKit's fsutil copier for what it leaves open.
"""

import contextlib
import functools
import os
import stat
from collections.abc import Callable

from builder.contenthash import Entry, Match
from builder.ops.filecopy import Attributes, OpenFolder, copy_regular
from builder.ownership import Owner
from builder.rootpath import Follow, is_dir, lstat, make_dirs, resolve
from store import ownership
from values.classes import dataclass

_SECOND_NS = 1_000_000_000
_DEVICE_KINDS = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}


class CopyRefused(Exception):
    """The rules do not allow the copy: a directory over a file, a file over a directory."""


@dataclass(slots=True)
class Target:
    """Where files go and what becomes of their owners and modes.

    root: path of the open root. owner: what --chown says, for all files and for what an archive
    brings, or None to keep the sources'. chmod: as `ownership.parse_chmod` gives it, or None.
    parent_mode: for missing parents. follow: finds where a path with links leads in the root.
    whole_seconds: the layer's times are set at once.
    """

    root: str
    owner: Owner | None = None
    chmod: Callable[[int, bool], int] | None = None
    parent_mode: int = 0o755
    follow: Follow = resolve
    whole_seconds: bool = False

    def mode_of(self, entry: Entry) -> int:
        """Return the permission bits that a copied file gets."""
        if self.chmod is None:
            return entry.mode
        return self.chmod(entry.mode, entry.kind == "dir")

    def times_of(self, entry: Entry) -> tuple[int, int]:
        """Return when a copied file was accessed and modified (ns)."""
        rest = entry.mtime_ns % _SECOND_NS if self.whole_seconds else 0
        return entry.atime_ns, entry.mtime_ns - rest

    def make_parents(self, path: str) -> str:
        """Make a directory of the destination with its parents; return where it really is."""
        try:
            owner = self.owner.ids if self.owner else None
            return make_dirs(self.root, path, self.parent_mode, owner, self.follow)
        except NotADirectoryError as error:
            raise CopyRefused(f"cannot copy to non-directory: {error.filename}") from error


def copy_match(source_root: str, match: Match, destination: str, target: Target) -> None:
    """Copy one match to `destination`, an absolute path whose trailing slash counts.

    Raises CopyRefused, FileChanged, and OSError as the system calls give it.
    """
    if match.is_dir:
        copy_contents(source_root, match, destination, target)
        return
    if destination.endswith("/"):
        path = os.path.join(target.make_parents(destination), match.name)
    else:
        # Onto a symlink that is the destination itself it is written through.
        path = target.follow(target.root, destination)
        if is_dir(os.path.join(target.root, path)):
            path = os.path.join(path, match.name)
        else:
            target.make_parents(os.path.dirname(path))
    copy_entries(source_root, match, path, target)


def copy_whole(source_root: str, match: Match, path: str, target: Target) -> None:
    """Copy a match to `path`, relative to the root, where nothing is; as it is, not its contents.

    Raises FileChanged, and OSError as the system calls give it.
    """
    top = match.entries[0]
    place = os.path.join(target.root, path)
    if top.kind == "dir":
        make_directory(place, top, target)
    copy_entries(source_root, match, path, target)
    os.utime(place, ns=(top.atime_ns, top.mtime_ns), follow_symlinks=False)
    ownership.note_in_times(place, *_owner_of(top, target))


def copy_contents(source_root: str, match: Match, destination: str, target: Target) -> None:
    """Copy what is in a directory; it becomes part of the destination.

    The destination keeps its own attributes, its time too; a new one has the source's time.
    """
    before = lstat(os.path.join(target.root, target.follow(target.root, destination)))
    base = target.make_parents(destination)
    copy_entries(source_root, match, base, target)
    top = match.entries[0]
    times = (before.st_atime_ns, before.st_mtime_ns) if before else (top.atime_ns, top.mtime_ns)
    os.utime(os.path.join(target.root, base), ns=times)


def copy_entries(source_root: str, match: Match, base: str, target: Target) -> None:
    """Copy a match's entries to `base` and below; directories get their times at the end.

    Hard links are kept within a match: what is one file in the source is one here.
    """
    directories: list[tuple[str, Entry]] = []
    links: dict[tuple[int, int], str] = {}
    source_base = os.path.join(source_root, match.path).rstrip("/")
    place_base = os.path.join(target.root, base).rstrip("/")
    with OpenFolder() as sources, OpenFolder() as places:
        for entry in match.entries:
            if entry.kind == "socket":
                continue
            path = f"{place_base}/{entry.path}" if entry.path else place_base
            if entry.kind == "dir":
                # The selected directory itself is not copied: its destination keeps its own mode.
                if entry.path:
                    make_directory(path, entry, target)
                    directories.append((path, entry))
                continue
            if entry.link_group is not None:
                first = links.setdefault(entry.link_group, path)
                if first != path:
                    make = functools.partial(os.link, first, path, follow_symlinks=False)
                    in_place(path, make)
                    continue
            if entry.kind == "file":
                source = f"{source_base}/{entry.path}" if entry.path else source_base
                copy_one(sources.of(source), places.of(path), path, entry, target)
            else:
                make_special(path, entry, target)
    for path, entry in reversed(directories):
        os.utime(path, ns=target.times_of(entry))


def make_directory(path: str, entry: Entry, target: Target) -> None:
    """Make a directory of a copied tree, or give one that is there the source's attributes."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not is_dir(path):
            raise CopyRefused(f"cannot copy to non-directory: {inside(path, target)}") from None
    set_attributes(path, entry, target)


def make_room(path: str) -> None:
    """Remove a file or symlink at `path`. Raises CopyRefused for a directory."""
    status = lstat(path)
    if status is None:
        return
    if stat.S_ISDIR(status.st_mode):
        raise CopyRefused(f"cannot replace to directory with file: {os.path.basename(path)}")
    os.unlink(path)


def inside(path: str, target: Target) -> str:
    """Return a path on disk as it is called inside the root."""
    return "/" + path[len(target.root) :].lstrip("/")


def in_place(path: str, make: Callable[[], object]) -> None:
    """Make something at `path`, in the place of the file that may be there. Raises CopyRefused."""
    try:
        make()
    except FileExistsError:
        make_room(path)
        make()


def copy_one(
    source: tuple[int, str], folder: tuple[int, str], path: str, entry: Entry, target: Target
) -> None:
    """Copy a regular file to `path`, which is in `folder`."""
    uid, gid = _owner_of(entry, target)
    times = target.times_of(entry)
    wanted = Attributes(uid, gid, target.mode_of(entry), times, entry.xattrs)
    in_place(path, lambda: copy_regular(source, folder, entry, wanted))


def make_special(path: str, entry: Entry, target: Target) -> None:
    """Make a symlink, device or fifo at `path`."""

    def make() -> None:
        if entry.kind == "symlink":
            os.symlink(entry.target, path)
        else:
            os.mknod(path, _DEVICE_KINDS[entry.kind] | 0o600, entry.rdev)

    in_place(path, make)
    set_attributes(path, entry, target)
    os.utime(path, ns=target.times_of(entry), follow_symlinks=False)
    ownership.note_in_times(path, *_owner_of(entry, target))


def _owner_of(entry: Entry, target: Target) -> tuple[int, int]:
    return target.owner.ids if target.owner else (entry.uid, entry.gid)


def set_attributes(path: str, entry: Entry, target: Target) -> None:
    """Give a new file its owner, mode and xattrs: in this order, chown clears setuid bits."""
    ownership.give(path, *_owner_of(entry, target))
    if entry.kind != "symlink":
        ownership.set_mode(path, target.mode_of(entry))
    for name, value in entry.xattrs:
        # BuildKit ignores what the destination's file system cannot hold, and so do we.
        with contextlib.suppress(OSError):
            os.setxattr(path, name, value, follow_symlinks=False)
