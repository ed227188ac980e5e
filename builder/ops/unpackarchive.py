"""ADD of a local archive: its members become files below the destination.

The destination is the root that links are followed in, as if one had changed root into it.
Source: Dockerfile reference, "Adding local tar archives".
"""

import hashlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from builder.errors import InstructionError, Place
from builder.ops.copyfiles import Target
from builder.ownership import Owner
from builder.tree import FileChanged
from store.compression import decompressed
from store.contents import PLAIN_ARCHIVE
from store.errors import BadArchive
from store.tarreader import Member, TarReader, chunks_of
from store.unpack import Unpacker
from values.classes import dataclass, replace

_END_OF_TIME_NS = 1 << 63


class AddedReader(TarReader):
    """A tar's members as ADD takes them: owned by `owner`, if any; impossible times are 1970.

    Source: BuildKit, rootHeaderTimes.
    """

    def __init__(self, chunks: Iterator[bytes], owner: Owner | None) -> None:
        super().__init__(chunks)
        self._owner = owner

    def next(self) -> Member | None:
        """Return the next member, None at the end. Raises BadArchive."""
        member = super().next()
        if member is None:
            return None
        if not 0 <= member.mtime_ns < _END_OF_TIME_NS:
            member = member._replace(mtime_ns=0)
        if self._owner is None:
            return member
        return member._replace(uid=self._owner.uid, gid=self._owner.gid)


def is_archive(path: str) -> bool:
    """Tell from a file's bytes, not its name, whether ADD unpacks it."""
    with open(path, "rb") as file:
        try:
            return TarReader(decompressed(chunks_of(file))).next() is not None
        except BadArchive:
            return False


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive to unpack: where it is, what an error calls it, the digest of its bytes."""

    path: str
    name: str
    digest: str

    def chunks(self, file: BinaryIO) -> Iterator[bytes]:
        """Yield the bytes of the open archive. Raises FileChanged at the end, if they changed."""
        digest = hashlib.sha256()
        for chunk in chunks_of(file):
            digest.update(chunk)
            yield chunk
        if f"sha256:{digest.hexdigest()}" != self.digest:
            raise FileChanged(self.name)


def unpack_archive(archive: Archive, destination: str, target: Target, place: Place) -> None:
    """Unpack an archive into the directory `destination`, which is made if missing.

    --chown overrides the members' owners; --chmod does not apply, as in BuildKit.
    Raises InstructionError for an archive that is broken or leads out of the destination,
    FileChanged where it is not what its digest says any more.
    """
    place_of = replace(target, parent_mode=0o755)  # --chmod is not for this directory either
    base = os.path.join(target.root, place_of.make_parents(destination))
    root_fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(archive.path, "rb") as file:
            whole = archive.chunks(file)
            chunks = decompressed(whole, name=archive.name)
            reader = AddedReader(chunks, target.owner)
            Unpacker(root_fd, PLAIN_ARCHIVE).run(reader)
            # What follows the compressed data counts too: all that was digested is read.
            for _ in whole:
                pass
    except BadArchive as error:
        raise InstructionError(place, f"ADD {archive.name}: {error}", hint=error.hint) from error
    finally:
        os.close(root_fd)
