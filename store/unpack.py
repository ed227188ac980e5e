"""From a tar to a tree: entries made below one directory, whatever the tar tries.

Every name is resolved inside the tree: `..` and absolute names are refused, a symlink that the tree
holds is followed within the tree as containerd does, never out of it. Deletions become overlay's
marks. What a layer needs from those below it (missing parents, outside hard links) is found out
and reported, or taken from them when they are given.
"""

import errno
import os
import stat
from collections.abc import Callable

from store import manner, ownership
from store.contents import Contents, Policy
from store.diff import OPAQUE_NAME, WHITEOUT
from store.entries import copy_attributes, copy_up, refused, set_xattrs
from store.errors import BadArchive
from store.folder import write_all
from store.overlay import is_whiteout, make_whiteout, opaque_mark
from store.tarreader import Member, TarReader
from store.tree import Place, Tree, shown

_META = b".wh..wh."
_NO_ID = 0xFFFFFFFF
_NANO = 1_000_000_000


class Unpacker:
    """Unpacks one tar into the directory `root_fd`; use it once."""

    def __init__(self, root_fd: int, policy: Policy) -> None:
        self._policy = policy
        self._references = 0
        self._is_root = os.geteuid() == 0
        self.contents = Contents()
        self._confinement = policy.confinement
        self._tree = Tree(root_fd, self._make_missing, self._confinement.open_below)
        self._directory_times: dict[bytes, int] = {}
        self._makers: dict[bytes, Callable[[Place, Member, TarReader], None]] = {
            b"0": self._file,
            b"S": self._file,
            b"1": self._link,
            b"2": self._symlink,
            b"3": self._node,
            b"4": self._node,
            b"5": self._directory,
            b"6": self._node,
        }

    def run(self, reader: TarReader) -> Contents:
        """Unpack all that `reader` gives, to the last byte of its stream.

        Raises BadArchive for a broken or hostile tar, OSError for what the disk refuses.
        """
        try:
            while (member := reader.next()) is not None:
                self._entry(member, reader)
            self._record(reader)
            for piece in reader.drain():
                if self._policy.headers:
                    self._policy.headers.raw(piece)
            self._drop_idle_whiteouts()
            self._set_times()
        finally:
            self._tree.close()
        return self.contents

    def _entry(self, member: Member, reader: TarReader) -> None:
        self._tree.settle()
        self.contents.entries += 1
        parent, name = self._confinement.name(member, member.name)
        make = self._makers.get(member.kind)
        if not name:
            if self._policy.root:
                self._root(member)
        elif self._policy.whiteouts and b".wh." in member.name and self._mark(parent, name):
            pass
        elif make is None:
            raise refused(member, f"entries of type {member.kind!r} are not supported")
        else:
            if not 0 <= member.uid < _NO_ID or not 0 <= member.gid < _NO_ID:
                raise refused(member, f"owner {member.uid}:{member.gid} is out of range")
            make(self._tree.place(parent, name), member, reader)
            if not parent:
                newest = max(self.contents.newest_s, member.mtime_ns // _NANO)
                self.contents.newest_s = newest
        self._record(reader)
        self._skip(reader)

    def _record(self, reader: TarReader) -> None:
        raw = reader.take_raw()
        if self._policy.headers and raw:
            self._policy.headers.raw(raw)

    def _skip(self, reader: TarReader) -> None:
        for piece in reader.body():
            if self._policy.headers:
                self._policy.headers.raw(piece)

    # -- whiteouts ---------------------------------------------------------------------------

    def _mark(self, parent: bytes, name: bytes) -> bool:
        """Handle a name that means deletion; False when it is a plain name."""
        if any(part.startswith(WHITEOUT) for part in parent.split(b"/")):
            if parent.startswith(_META):
                return True  # old AUFS bookkeeping, which containerd skips too
            raise BadArchive(f"unpack {shown(parent)}: a whiteout cannot be a directory")
        if not name.startswith(WHITEOUT):
            return False
        if name == OPAQUE_NAME:
            self._opaque(parent)
        elif not name.startswith(_META):
            hidden = name[len(WHITEOUT) :]
            if hidden in (b"", b".", b".."):
                raise BadArchive(f"unpack {shown(parent)}/{shown(name)}: a whiteout of nothing")
            self._whiteout(self._tree.place(parent, hidden))
        return True

    def _opaque(self, parent: bytes) -> None:
        if not parent:
            self.contents.opaque_root = True
            return
        parent, _, name = parent.rpartition(b"/")
        fd, path = self._tree.enter(self._tree.place(parent, name))
        try:
            os.setxattr(fd, opaque_mark(), b"y")
        finally:
            os.close(fd)
        self.contents.opaques.add(path)

    def _whiteout(self, place: Place) -> None:
        below = self._policy.below
        if below is not None and below.find(place.path) is None:
            return
        status = place.status()
        if status is None:
            make_whiteout(place.name, place.fd)
            self.contents.whiteouts[place.path] = None
        elif stat.S_ISDIR(status.st_mode):
            self._make_opaque(place)

    def _make_opaque(self, place: Place) -> None:
        os.setxattr(place.proc_path(), opaque_mark(), b"y", follow_symlinks=False)
        self.contents.opaques.add(place.path)

    def _drop_idle_whiteouts(self) -> None:
        """Inside an opaque directory nothing is left to delete, and the mark itself would show."""
        opaques = self.contents.opaques
        for path in list(self.contents.whiteouts) if opaques else ():
            parent = path.rpartition(b"/")[0]
            while parent and parent not in opaques:
                parent = parent.rpartition(b"/")[0]
            if parent:
                parent, _, name = path.rpartition(b"/")
                self._tree.settle()
                os.unlink(name, dir_fd=self._tree.place(parent, name).fd)
                del self.contents.whiteouts[path]

    # -- entries -----------------------------------------------------------------------------

    def _root(self, member: Member) -> None:
        if member.kind != b"5":
            raise refused(member, "the root can only be a directory")
        root_fd = self._tree.root_fd
        self.contents.root = member
        ownership.give(root_fd, member.uid, member.gid)
        ownership.set_mode(root_fd, member.mode)
        set_xattrs(member, root_fd)

    def _file(self, place: Place, member: Member, reader: TarReader) -> None:
        fd = self._create(place)
        try:
            if member.segments is not None:
                self._sparse(fd, place, member, reader)
            elif member.size_bytes:
                self._refer(place, 0, member.size_bytes, reader)
                data = reader.small_body()
                if data:
                    write_all(fd, data)
                else:
                    for piece in reader.body():
                        write_all(fd, piece)
            self.contents.content_bytes += member.size_bytes
            # After the data: a write takes security.capability away, a chown the setuid bit.
            if self._owns(member):
                ownership.give(fd, member.uid, member.gid)
            ownership.set_mode(fd, member.mode)
            if member.xattrs:
                set_xattrs(member, fd)
            os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
        except OverflowError as error:
            raise refused(member, f"time {member.mtime_ns} ns is out of range") from error
        finally:
            os.close(fd)

    def _owns(self, member: Member) -> bool:
        """Tell whether an owner has to be set: below a setgid directory root's files have another.

        Without root all belongs to one user, who stands for root.
        """
        return self._is_root or bool(member.uid or member.gid)

    def _create(self, place: Place) -> int:
        try:
            return os.open(place.name, self._confinement.create, 0o600, dir_fd=place.fd)
        except FileExistsError:
            self._clear(place)
            return os.open(place.name, self._confinement.create, 0o600, dir_fd=place.fd)

    def _refer(self, place: Place, offset: int, size_bytes: int, reader: TarReader) -> None:
        self._record(reader)
        if self._policy.headers:
            self._policy.headers.data(place.path, offset, size_bytes)
            self._references += 1

    def _sparse(self, fd: int, place: Place, member: Member, reader: TarReader) -> None:
        try:
            os.ftruncate(fd, member.size_bytes)
        except OSError as error:
            if error.errno not in (errno.EFBIG, errno.EINVAL):
                raise
            raise refused(member, f"a file of {member.size_bytes} bytes cannot be made") from error
        assert member.segments is not None
        for offset, size_bytes in member.segments:
            if size_bytes:
                self._refer(place, offset, size_bytes, reader)
        segments = iter([segment for segment in member.segments if segment[1]])
        at = left = 0
        for piece in reader.body():
            view = memoryview(piece)
            while view:
                if not left:
                    at, left = next(segments)
                count = os.pwrite(fd, view[:left], at)
                at, left, view = at + count, left - count, view[count:]

    def _directory(self, place: Place, member: Member, reader: TarReader) -> None:
        status = place.status()
        if status is None or not stat.S_ISDIR(status.st_mode):
            if status is not None:
                self._clear(place)
            os.mkdir(place.name, 0o700, dir_fd=place.fd)
            if status is not None and is_whiteout(status):
                self._make_opaque(place)
        if self._owns(member):
            ownership.give(place.name, member.uid, member.gid, dir_fd=place.fd)
        ownership.set_mode(place.name, member.mode, dir_fd=place.fd)
        if member.xattrs:
            set_xattrs(member, place.proc_path())
        self.contents.missing.discard(place.path)
        self._directory_times[place.path] = member.mtime_ns

    def _symlink(self, place: Place, member: Member, reader: TarReader) -> None:
        if not member.target or b"\0" in member.target:
            raise refused(member, "a symlink without a proper target")
        self._free(place)
        os.symlink(member.target, place.name, dir_fd=place.fd)
        self._finish_special(place, member)

    def _node(self, place: Place, member: Member, reader: TarReader) -> None:
        kind = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}[member.kind]
        # The kernel cuts wider numbers, and 0:0 is overlay's own mark for a deletion.
        if member.major > 0xFFF or member.minor > 0xFFFFF:
            raise refused(member, f"device {member.major}:{member.minor} is out of range")
        if member.kind == b"3" and member.major == member.minor == 0:
            raise refused(member, "a character device 0:0 would be a whiteout")
        self._free(place)
        device = os.makedev(member.major, member.minor)
        try:
            os.mknod(place.name, kind | 0o600, device, dir_fd=place.fd)
        except PermissionError:
            if kind == stat.S_IFIFO or manner.current() == manner.ROOTS:
                raise
            # Root of a user namespace makes no devices. The kept headers have it all the same.
            self.contents.unmade.append(place.path)
            return
        self._finish_special(place, member)

    def _finish_special(self, place: Place, member: Member) -> None:
        if self._owns(member):
            ownership.give(place.name, member.uid, member.gid, dir_fd=place.fd)
        if member.kind != b"2":
            ownership.set_mode(place.name, member.mode, dir_fd=place.fd)
        if member.xattrs:
            set_xattrs(member, place.proc_path())
        times = member.mtime_ns, member.mtime_ns
        try:
            os.utime(place.name, ns=times, dir_fd=place.fd, follow_symlinks=False)
        except OverflowError as error:
            raise refused(member, f"time {member.mtime_ns} ns is out of range") from error
        ownership.note_in_times(place.name, member.uid, member.gid, dir_fd=place.fd)

    def _link(self, place: Place, member: Member, reader: TarReader) -> None:
        parent, name = self._confinement.name(member, member.target)
        source = self._tree.look(parent, name) if name else None
        status = source.status() if source else None
        if source is None or status is None:
            source = self._outside(place, parent, name)
            if source is None:
                return
        elif stat.S_ISDIR(status.st_mode) or is_whiteout(status):
            raise refused(member, f"hard link to {shown(member.target)}, which is no file")
        if source.path == place.path:
            raise refused(member, "hard link to itself")
        self._free(place)
        os.link(
            source.name,
            place.name,
            src_dir_fd=source.fd,
            dst_dir_fd=place.fd,
            follow_symlinks=False,
        )
        if not self._policy.whiteouts:
            self._relabel(place, member)

    def _relabel(self, place: Place, member: Member) -> None:
        """Give a file what the entry of its further name says: in a plain archive that counts.

        Of a symlink it is the owner alone. Source: BuildKit, applyRootArchive.
        """
        if self._owns(member):
            ownership.give(place.name, member.uid, member.gid, dir_fd=place.fd)
        status = place.status()
        if status is not None and not stat.S_ISLNK(status.st_mode):
            ownership.set_mode(place.name, member.mode, dir_fd=place.fd)
            times = member.mtime_ns, member.mtime_ns
            os.utime(place.name, ns=times, dir_fd=place.fd, follow_symlinks=False)
            ownership.note_in_times(place.name, member.uid, member.gid, dir_fd=place.fd)

    # -- what lies below ---------------------------------------------------------------------

    def _outside(self, place: Place, parent: bytes, name: bytes) -> Place | None:
        """Bring the target of a hard link up from below; None when below is not known."""
        target = b"%b/%b" % (parent, name) if parent else name
        self.contents.external.append((place.path, target))
        if self._policy.below is None and self._policy.whiteouts:
            return None
        found = None
        if self._policy.below is not None and name:
            found = self._policy.below.find(target)
        if found is None or stat.S_ISDIR(found[0].st_mode):
            raise BadArchive(
                f"unpack {shown(place.path)}: hard link to {shown(target)}, which is no file "
                f"of this {'layer or those below' if self._policy.whiteouts else 'archive'}"
            )
        source = self._tree.place(parent, name)
        copy_up(found[1], found[0], source)
        return source

    def _make_missing(self, place: Place) -> None:
        """Make a parent directory that has no entry of its own (yet)."""
        status = place.status()
        if status is not None:
            if not is_whiteout(status):
                raise BadArchive(f"unpack {shown(place.path)}: a file is used as a directory")
            os.unlink(place.name, dir_fd=place.fd)
            self.contents.whiteouts.pop(place.path, None)
        os.mkdir(place.name, 0o755, dir_fd=place.fd)
        setgid = 0
        if not self._policy.whiteouts:  # what the kernel hands down in a setgid directory stays
            made = os.stat(place.name, dir_fd=place.fd, follow_symlinks=False)
            setgid = made.st_mode & stat.S_ISGID
        if self._is_root:
            ownership.give(place.name, 0, 0, dir_fd=place.fd)
        os.chmod(place.name, 0o755 | setgid, dir_fd=place.fd)
        self.contents.missing.add(place.path)
        self._directory_times[place.path] = 0
        if status is not None:
            self._make_opaque(place)
        elif self._policy.below is not None:
            found = self._policy.below.find(place.path)
            if found is not None and stat.S_ISDIR(found[0].st_mode):
                copy_attributes(found[1], found[0], place)
                self._directory_times[place.path] = found[0].st_mtime_ns

    # -- replacing ---------------------------------------------------------------------------

    def _free(self, place: Place) -> None:
        if place.status() is not None:
            self._clear(place)

    def _clear(self, place: Place) -> None:
        """Take away what an earlier entry of this tar, or the tree before it, put here."""
        status = place.status()
        if status is None:
            return
        if stat.S_ISDIR(status.st_mode):
            self._forget_below(place.path)
        elif self._policy.lost is None or not (status.st_size and stat.S_ISREG(status.st_mode)):
            os.unlink(place.name, dir_fd=place.fd)
            self.contents.whiteouts.pop(place.path, None)
            return
        if self._policy.lost is None:
            self._tree.delete(place)
            return
        number = len(self.contents.displaced)
        os.rename(place.name, f"{self._policy.lost}/{number}", src_dir_fd=place.fd)
        self.contents.displaced.append((self._references, place.path, number))

    def _forget_below(self, path: bytes) -> None:
        self._tree.forget()
        below = path + b"/"
        gone = [known for known in self._directory_times if known.startswith(below)]
        for known in (*gone, path):
            self._directory_times.pop(known, None)
        contents = self.contents
        contents.missing = {p for p in contents.missing if p != path and not p.startswith(below)}
        contents.opaques = {p for p in contents.opaques if p != path and not p.startswith(below)}
        for known in [p for p in contents.whiteouts if p.startswith(below)]:
            del contents.whiteouts[known]

    # -- attributes --------------------------------------------------------------------------

    def _set_times(self) -> None:
        """Set directories' times last: every entry made in one changed it."""
        for path, mtime_ns in self._directory_times.items():
            fd = self._tree.open_directory(path)
            try:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            except OverflowError as error:
                raise BadArchive(
                    f"unpack {shown(path)}: time {mtime_ns} ns is out of range"
                ) from error
            finally:
                os.close(fd)
        root = self.contents.root
        if root or self._policy.whiteouts:
            mtime_ns = root.mtime_ns if root else self.contents.newest_s * _NANO
            os.utime(self._tree.root_fd, ns=(mtime_ns, mtime_ns))
