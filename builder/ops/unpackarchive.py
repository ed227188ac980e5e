"""ADD of a local archive: its members become files below the destination.

The destination is the root that links are followed in, as if one had changed root into it.
Source: Dockerfile reference, "Adding local tar archives".
"""

import os
from collections.abc import Iterator

from builder.errors import InstructionError, Place
from builder.ops.copyfiles import Target
from builder.ownership import Owner
from store.compression import decompressed
from store.contents import Policy
from store.errors import BadArchive
from store.tarreader import Member, TarReader, chunks_of
from store.unpack import Unpacker


class OwnedReader(TarReader):
    """A tar's members, all of them owned by `owner`."""

    def __init__(self, chunks: Iterator[bytes], owner: Owner) -> None:
        super().__init__(chunks)
        self._owner = owner

    def next(self) -> Member | None:
        """Return the next member, None at the end. Raises BadArchive."""
        member = super().next()
        if member is None:
            return None
        return member._replace(uid=self._owner.uid, gid=self._owner.gid)


def is_archive(path: str) -> bool:
    """Tell from a file's bytes, not its name, whether ADD unpacks it."""
    with open(path, "rb") as file:
        try:
            return TarReader(decompressed(chunks_of(file))).next() is not None
        except BadArchive:
            return False


def unpack_archive(path: str, name: str, destination: str, target: Target, place: Place) -> None:
    """Unpack the archive at `path` into the directory `destination`, which is made if missing.

    name: what an error calls the archive. --chown overrides the members' owners; --chmod does not
    apply, as in BuildKit.
    Raises InstructionError for an archive that is broken or leads out of the destination.
    """
    base = os.path.join(target.root, target.make_parents(destination))
    root_fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(path, "rb") as file:
            chunks = decompressed(chunks_of(file), name=name)
            owner = target.owner if target.forced_owner else None
            reader = OwnedReader(chunks, owner) if owner else TarReader(chunks)
            Unpacker(root_fd, Policy(whiteouts=False)).run(reader)
    except BadArchive as error:
        raise InstructionError(place, f"ADD {name}: {error}", hint=error.hint) from error
    finally:
        os.close(root_fd)
