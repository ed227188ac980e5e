"""Where an archive's files come from: a seekable tar, a stream, a folder.

Owns finding a file by its name and reading it. Refuses to know what the files mean. Names are
as the tar spells them without a leading `./`; symbolic and hard links are followed inside the
archive only.
"""

import hashlib
import itertools
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from store import linux
from store.compression import decompressed
from store.digest import Digest
from store.errors import BadArchive, disk_errors
from store.folder import Folder, write_all
from store.tarreader import Member, TarReader
from values.classes import dataclass

OpenBelow = Callable[[int, str, int], int]

_CHUNK_BYTES = 1 << 20
_LINK_HOPS = 16
_MOST_FILES = 100_000
_DOCUMENT_BYTES = 16 << 20  # no index or config is honestly bigger


@dataclass(frozen=True, slots=True)
class File:
    """One file of an archive.

    open: gives a new descriptor. offset, size_bytes: where its bytes lie in that. digest: where
    it was computed on the way in.
    """

    open: Callable[[], int]
    offset: int
    size_bytes: int
    digest: Digest | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the file's bytes. Raises BadArchive when it became shorter."""
        fd = self.open()
        try:
            at, end = self.offset, self.offset + self.size_bytes
            while at < end:
                chunk = os.pread(fd, min(_CHUNK_BYTES, end - at), at)
                if not chunk:
                    raise BadArchive("the archive was cut off while it was read")
                at += len(chunk)
                yield chunk
        finally:
            os.close(fd)

    def head(self) -> bytes:
        """Return the first bytes, enough to tell the compression."""
        fd = self.open()
        try:
            return os.pread(fd, min(self.size_bytes, 512), self.offset)
        finally:
            os.close(fd)


class Archive:
    """The files of one archive by name."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.files: dict[str, File] = {}
        self.links: dict[str, str] = {}

    def find(self, name: str) -> File | None:
        """Return the file called `name`, links followed, or None."""
        for _ in range(_LINK_HOPS):
            file = self.files.get(name)
            if file is not None:
                return file
            target = self.links.get(name)
            if target is None:
                return None
            name = target
        return None

    def has(self, name: str) -> bool:
        """Tell whether the archive has a file called `name`."""
        return self.find(name) is not None

    def file(self, name: str, named_by: str) -> File:
        """Return the file called `name`. Raises BadArchive, saying what named it."""
        file = self.find(name)
        if file is None:
            raise BadArchive(f"{named_by} names {name}, which is not in the archive")
        return file

    def read(self, name: str, named_by: str) -> bytes:
        """Return the content of a document. Raises BadArchive when absent or far too big."""
        file = self.file(name, named_by)
        if file.size_bytes > _DOCUMENT_BYTES:
            raise BadArchive(f"{name} has {file.size_bytes} bytes, too many for a document")
        return b"".join(file.chunks())


class _FolderArchive(Archive):
    """The files below a folder, looked up when asked for; symlinks are not followed."""

    def __init__(self, what: str, folder_fd: int, open_below: OpenBelow) -> None:
        super().__init__(what)
        self._folder_fd = folder_fd
        self._open_below = open_below

    def find(self, name: str) -> File | None:
        """Return the file called `name`, or None."""

        def opened() -> int:
            # A fifo of that name must not hang us: see open(2), O_NONBLOCK.
            return self._open_below(self._folder_fd, name, os.O_RDONLY | os.O_NONBLOCK)

        try:
            if b"\0" in name.encode():
                return None
            fd = opened()
        except (FileNotFoundError, NotADirectoryError, UnicodeEncodeError):
            return None
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            raise BadArchive(f"{name} cannot be opened: {cause}") from error
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        if not stat.S_ISREG(status.st_mode):
            raise BadArchive(f"{name} is not a regular file")
        return File(opened, 0, status.st_size)


@contextmanager
def opened(
    source: BinaryIO | str | os.PathLike[str],
    folder: Folder,
    open_below: OpenBelow = linux.open_beneath,
) -> Iterator[Archive]:
    """Give the files of an archive.

    source: a stream with a tar, compressed or not, or the path of such a file or of a folder.
    A stream that cannot be read twice is copied to the store's scratch space; `folder` has that.
    open_below: opens a folder's files without following a symlink out of it.
    Raises BadArchive, StoreError.
    """
    if not isinstance(source, str | os.PathLike):
        with _opened_stream(source, folder) as archive:
            yield archive
        return
    path = os.fspath(source)
    with disk_errors(f"load {path}", path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        try:
            yield _FolderArchive(path, fd, open_below)
        finally:
            os.close(fd)
        return
    with open(fd, "rb") as file, _opened_stream(file, folder) as archive:
        archive.what = path
        yield archive


@contextmanager
def _opened_stream(source: BinaryIO, folder: Folder) -> Iterator[Archive]:
    name = getattr(source, "name", "")
    archive = Archive(name if isinstance(name, str) and name else "the archive")
    fd = _seekable_tar(source)
    if fd is not None:
        _index(archive, fd, source.tell())
        yield archive
        return
    scratch = folder.scratch_directory()
    try:
        with disk_errors("read archive", scratch.path):
            _spool(archive, source, scratch.path)
        yield archive
    finally:
        folder.remove_tree(scratch.path)
        os.close(scratch.fd)


def _seekable_tar(source: BinaryIO) -> int | None:
    """Return the descriptor of `source` if it is a file that holds a tar as it is."""
    try:
        fd = source.fileno()
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        block = os.pread(fd, 512, source.tell())
    except (OSError, AttributeError, ValueError):
        return None  # BytesIO, sockets, pipes
    return fd if block[257:262] == b"ustar" else None


def _index(archive: Archive, fd: int, start: int) -> None:
    """Note where the files of a tar lie, without reading their bodies."""
    end = os.fstat(fd).st_size
    at = start

    def chunks(at: int) -> Iterator[bytes]:
        while chunk := os.pread(fd, 1 << 12, at):
            at += len(chunk)
            yield chunk

    while True:
        reader = TarReader(chunks(at))
        member = reader.next()
        if member is None:
            _expect_end_mark(reader)
            return
        body = at + reader.offset
        if body + member.size_bytes > end:
            raise BadArchive(f"{_text(member.name)} is cut off")
        if _is_file(member):
            file = File(lambda: os.dup(fd), body, member.size_bytes)
            _add(archive, member, file)
        at = body + -(-member.size_bytes // 512) * 512
        _add_link(archive, member)


def _spool(archive: Archive, source: BinaryIO, scratch: str) -> None:
    """Copy the files of a tar that streams by into the folder `scratch`."""
    reader = TarReader(decompressed(_read(source), name="archive"))
    numbers = itertools.count()
    while (member := reader.next()) is not None:
        if _is_file(member):
            path = os.path.join(scratch, str(next(numbers)))
            _add(archive, member, _copy(reader, path))
        _add_link(archive, member)
        reader.take_raw()
    _expect_end_mark(reader)
    for _ in reader.drain():
        pass  # what compressed the stream checks its end


def _expect_end_mark(reader: TarReader) -> None:
    """Raise BadArchive when the tar just ends: what was to follow may have been cut off."""
    if not reader.take_raw().endswith(bytes(512)):
        raise BadArchive("it ends without the mark of a tar's end, so it may be cut off")


def _read(source: BinaryIO) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK_BYTES):
        yield chunk


def _copy(reader: TarReader, path: str) -> File:
    digest, size = hashlib.sha256(), 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for piece in reader.body():
            digest.update(piece)
            size += len(piece)
            write_all(fd, piece)
    finally:
        os.close(fd)

    def opened() -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    return File(opened, 0, size, Digest(f"sha256:{digest.hexdigest()}"))


def _is_file(member: Member) -> bool:
    if member.segments is not None:
        raise BadArchive(f"{_text(member.name)} is a sparse file, which no image archive has")
    return member.kind == b"0"


def _add(archive: Archive, member: Member, file: File) -> None:
    if len(archive.files) >= _MOST_FILES:
        raise BadArchive(f"it holds more than {_MOST_FILES} files")
    name = _normal(member.name)
    archive.files[name] = file
    archive.links.pop(name, None)


def _add_link(archive: Archive, member: Member) -> None:
    """Note a link: docker before 25 shares layers by symlinks between its folders."""
    if member.kind not in (b"1", b"2"):
        return
    name = _normal(member.name)
    base = posixpath.dirname(name) if member.kind == b"2" else ""
    archive.links[name] = posixpath.normpath(posixpath.join(base, _text(member.target)))
    archive.files.pop(name, None)


def _normal(name: bytes) -> str:
    return posixpath.normpath(_text(name)).lstrip("/")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
