"""From a stored layer back to its exact tar: the header stream, filled with the tree's bytes."""

import os
from collections.abc import Generator
from typing import BinaryIO

from store import headers
from store.errors import Corrupt
from store.linux import open_beneath
from values.classes import dataclass

_BATCH_BYTES = 1 << 18
_READ_BYTES = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOATIME | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Source:
    """A layer's folder. name: for errors. displaced: see store.contents.Contents."""

    path: str
    name: str
    displaced: tuple[tuple[int, bytes, int], ...] = ()


def stream(source: Source) -> Generator[bytes, None, None]:
    """Yield the tar in pieces. Raises Corrupt for what is missing or too short."""
    try:
        file = open(f"{source.path}/headers", "rb", buffering=0)  # noqa: SIM115  closed below
    except FileNotFoundError as error:
        raise Corrupt(f"{source.name}: its header stream is gone") from error
    with file:
        fd = os.open(source.path, _DIRECTORY)
        try:
            yield from _filled(source, file, fd)
        finally:
            os.close(fd)


def _filled(source: Source, file: BinaryIO, folder_fd: int) -> Generator[bytes, None, None]:
    batch: list[bytes] = []
    have = references = 0
    for record in headers.read(file, source.name):
        if isinstance(record, bytes):
            batch.append(record)
            have += len(record)
        else:
            place = _place(source, record.path, references)
            references += 1
            for piece in _run(source, folder_fd, record._replace(path=place)):
                batch.append(piece)
                have += len(piece)
                if have >= _BATCH_BYTES:
                    yield b"".join(batch)
                    batch.clear()
                    have = 0
        if have >= _BATCH_BYTES:
            yield b"".join(batch)
            batch.clear()
            have = 0
    if batch:
        yield b"".join(batch)


def _place(source: Source, path: bytes, reference: int) -> bytes:
    """Return where the bytes lie: an entry that a later one replaced went to `lost`."""
    for before, displaced, number in source.displaced:
        if reference < before and (path == displaced or path.startswith(displaced + b"/")):
            return b"lost/%d%b" % (number, path[len(displaced) :])
    return b"fs/" + path


def _run(source: Source, folder_fd: int, ref: headers.DataRef) -> Generator[bytes, None, None]:
    try:
        fd = open_beneath(folder_fd, ref.path, _FILE)
    except OSError as error:
        raise Corrupt(f"{source.name}: {os.fsdecode(ref.path)}: {error.strerror}") from error
    try:
        at, left = ref.offset, ref.size_bytes
        while left:
            piece = os.pread(fd, min(left, _READ_BYTES), at)
            if not piece:
                raise Corrupt(f"{source.name}: {os.fsdecode(ref.path)} is too short")
            yield piece
            at += len(piece)
            left -= len(piece)
    finally:
        os.close(fd)
