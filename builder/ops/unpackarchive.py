"""ADD of a local archive: its members become files below the destination.

The destination is the root that links are followed in, as if one had changed root into it.
Source: Dockerfile reference, "Adding local tar archives".
"""

import contextlib
import os
import stat
from dataclasses import dataclass, field

from builder.contenthash import Entry
from builder.errors import InstructionError, Place
from builder.ops.copyfiles import Target
from builder.rootpath import is_dir, lstat, make_dirs, resolve
from store.compression import decompressed
from store.errors import BadArchive
from store.tarreader import Member, TarReader, chunks_of

_DEVICES = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}


def is_archive(path: str) -> bool:
    """Tell from a file's bytes, not its name, whether ADD unpacks it."""
    with open(path, "rb") as file:
        try:
            return TarReader(decompressed(chunks_of(file))).next() is not None
        except BadArchive:
            return False


@dataclass(slots=True)
class Unpacking:
    """One archive on its way into `root`, a directory's path."""

    root: str
    target: Target
    directories: list[tuple[str, int]] = field(default_factory=list)

    def take(self, member: Member, reader: TarReader) -> None:
        """Make one member. Raises BadArchive for what cannot be made, OSError."""
        name = os.fsdecode(member.name)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise BadArchive(f"member {name!r} leads out of the archive")
        if not parts:
            return
        parent = make_dirs(self.root, "/".join(parts[:-1]), 0o755, self.target.parent_owner)
        path = "/".join(part for part in (self.root, parent, parts[-1]) if part)
        if member.kind == b"5":
            self.make_directory(path)
        else:
            self.make_room(path, name)
            if not self.make_file(path, member, reader):
                return
        self.set_attributes(path, member)

    def make_directory(self, path: str) -> None:
        """Make a directory, keeping one that is there; anything else gives way to it."""
        if is_dir(path):
            return
        if lstat(path) is not None:
            os.unlink(path)
        os.mkdir(path, 0o700)

    def make_room(self, path: str, name: str) -> None:
        """Remove what is at `path`. Raises BadArchive for a directory that holds something."""
        status = lstat(path)
        if status is None:
            return
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(path)
            return
        try:
            os.rmdir(path)
        except OSError as error:
            raise BadArchive(
                f"member {name!r} would replace a directory that is not empty"
            ) from error

    def make_file(self, path: str, member: Member, reader: TarReader) -> bool:
        """Make what is no directory; False for a hard link, which has no attributes of its own."""
        target = os.fsdecode(member.target)
        if member.kind == b"1":
            real = resolve(self.root, target, follow_last=False)
            first = f"{self.root}/{real}"
            if lstat(first) is None:
                raise BadArchive(f"hard link to {target!r}, which is not there")
            os.link(first, path, follow_symlinks=False)
            return False
        if member.kind == b"2":
            os.symlink(target, path)
        elif member.kind in _DEVICES:
            os.mknod(path, _DEVICES[member.kind] | 0o600, os.makedev(member.major, member.minor))
        else:
            self.write_bytes(path, member, reader)
        return True

    def write_bytes(self, path: str, member: Member, reader: TarReader) -> None:
        """Write a regular file, with its holes."""
        with open(path, "xb") as file:
            if member.segments is None:
                for chunk in reader.body():
                    file.write(chunk)
                return
            data = b"".join(reader.body())
            at = 0
            for offset, size in member.segments:
                file.seek(offset)
                file.write(data[at : at + size])
                at += size
            file.truncate(member.size_bytes)

    def set_attributes(self, path: str, member: Member) -> None:
        """Give a new file its owner, mode, xattrs and time; directories get theirs at the end."""
        owner = self.target.owner
        forced = self.target.forced_owner
        uid, gid = owner.ids if owner is not None and forced else (member.uid, member.gid)
        os.chown(path, uid, gid, follow_symlinks=False)
        if member.kind != b"2":
            os.chmod(path, member.mode & 0o7777)
        for key, value in member.xattrs:
            if key == b"security.capability" or key.startswith(b"user."):
                with contextlib.suppress(OSError):
                    os.setxattr(path, key, value, follow_symlinks=False)
        if member.kind == b"5":
            self.directories.append((path, member.mtime_ns))
        else:
            os.utime(path, ns=(member.mtime_ns, member.mtime_ns), follow_symlinks=False)


def unpack_archive(path: str, entry: Entry, destination: str, target: Target, place: Place) -> None:
    """Unpack the archive at `path` into the directory `destination`, which is made if missing.

    --chown overrides the members' owners; --chmod does not apply, as in BuildKit.
    Raises InstructionError for an archive that is broken or leads out of the destination.
    """
    base = target.make_parents(destination)
    unpacking = Unpacking("/".join(part for part in (target.root, base) if part), target)
    with open(path, "rb") as file:
        reader = TarReader(decompressed(chunks_of(file)))
        try:
            while (member := reader.next()) is not None:
                unpacking.take(member, reader)
        except BadArchive as error:
            name = entry.path or os.path.basename(path)
            raise InstructionError(place, f"unpack {name}: {error}", hint=error.hint) from error
    for directory, mtime_ns in reversed(unpacking.directories):
        os.utime(directory, ns=(mtime_ns, mtime_ns))
