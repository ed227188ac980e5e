"""Cache mounts out of a store and into another: one tar with all that a cache depends on.

For each mount a folder with a number: `record.json` says what it is found by, `fs` is its
directory. Times are kept to the nanosecond, owners, modes, links and xattrs too: what caches are
for compares them.
"""

import io
import json
import os
import stat
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import BinaryIO

from store.cachemounts import VERSION, CacheMountInfo, CacheMountKey, CacheMounts, Wait
from store.compression import decompressed
from store.contents import Policy
from store.errors import BadArchive, disk_errors
from store.folder import Folder
from store.linux import next_extent
from store.tarreader import TarReader, chunks_of
from store.tarwriter import XATTR
from store.unpack import Unpacker

_NANO = 1_000_000_000
_RECORD, _TREE = "record.json", "fs"


def export_mounts(
    mounts: CacheMounts, wanted: Sequence[CacheMountInfo], out: BinaryIO, wait: Wait = time.sleep
) -> None:
    """Write cache mounts to `out`. Waits, one at a time, until nobody uses them.

    Raises OSError for what the disk or `out` refuses.
    """
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for number, info in enumerate(wanted):
            # Alone, so that no process moves a directory away under our feet.
            instance = mounts.use(info.key, sharing="locked", make=os.mkdir, wait=wait)
            try:
                record = {"version": VERSION, "id": info.key.id, "base": info.key.base}
                _add_text(archive, f"{number}/{_RECORD}", json.dumps(record))
                for path, name in _walk(instance.path, f"{number}/{_TREE}"):
                    _add(archive, path, name)
            finally:
                instance.close()


def _walk(path: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield a tree's paths with their names in the archive, sorted, parents first."""
    yield path, name
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for child in sorted(os.listdir(path)):
            yield from _walk(f"{path}/{child}", f"{name}/{child}")


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    folder = tarfile.TarInfo(os.path.dirname(name))
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(folder)
    entry = tarfile.TarInfo(name)
    entry.size = len(text.encode())
    archive.addfile(entry, io.BytesIO(text.encode()))


def _add(archive: tarfile.TarFile, path: str, name: str) -> None:
    status = os.lstat(path)
    if stat.S_ISSOCK(status.st_mode):
        return
    entry = archive.gettarinfo(path, name)
    entry.uname = entry.gname = ""
    entry.mtime, nanoseconds = divmod(status.st_mtime_ns, _NANO)
    records = {"mtime": f"{entry.mtime}.{nanoseconds:09}"} if nanoseconds else {}
    for key in os.listxattr(path, follow_symlinks=False):
        if key.startswith("user.") or key == "security.capability":
            value = os.getxattr(path, key, follow_symlinks=False)
            records[XATTR.decode() + key] = value.decode("utf-8", "surrogateescape")
    entry.pax_headers = records
    if entry.isreg():
        with open(path, "rb", buffering=0) as file:
            segments = _segments(file.fileno(), entry.size)
            if segments == [(0, entry.size)] or not entry.size:
                file.seek(0)  # looking for holes moved it
                archive.addfile(entry, file)
            else:
                _add_sparse(archive, entry, file, segments)
    else:
        archive.addfile(entry)


def _segments(fd: int, size_bytes: int) -> list[tuple[int, int]]:
    """Return offset and size of each run of data in a file: all of it where it has no holes."""
    found, offset = [], 0
    while offset < size_bytes:
        data, hole = next_extent(fd, offset, size_bytes)
        if data < hole:
            found.append((data, hole - data))
        offset = hole
    return found


def _add_sparse(
    archive: tarfile.TarFile,
    entry: tarfile.TarInfo,
    file: BinaryIO | io.FileIO,
    segments: Sequence[tuple[int, int]],
) -> None:
    """Add a file with holes: its map, then its data. Source: GNU tar manual, "PAX Format, 1.0"."""
    segments = [*segments, (entry.size, 0)]  # so that GNU's tar sees where it ends
    numbers = [len(segments), *(number for segment in segments for number in segment)]
    table = "".join(f"{number}\n" for number in numbers).encode()
    table += bytes(-len(table) % tarfile.BLOCKSIZE)
    entry.pax_headers = {
        **entry.pax_headers,
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": entry.name,
        "GNU.sparse.realsize": str(entry.size),
    }
    folder, name = os.path.split(entry.name)
    entry.name = f"{folder}/GNUSparseFile.0/{name}"
    entry.size = len(table) + sum(length for _, length in segments)
    archive.addfile(entry, _Pieces([io.BytesIO(table), *(_Piece(file, *s) for s in segments)]))


class _Piece(io.RawIOBase):
    """A run of bytes of a file, read once."""

    def __init__(self, file: BinaryIO | io.FileIO, offset: int, size_bytes: int) -> None:
        self._file, self._offset, self._left = file, offset, size_bytes

    def read(self, size: int = -1) -> bytes:
        data = os.pread(self._file.fileno(), min(size, self._left), self._offset)
        self._offset += len(data)
        self._left -= len(data)
        return data


class _Pieces(io.RawIOBase):
    """Streams one behind the other."""

    def __init__(self, pieces: Sequence[io.BytesIO | _Piece]) -> None:
        self._pieces = list(pieces)

    def read(self, size: int = -1) -> bytes:
        data = b""
        while self._pieces and len(data) < size:
            more = self._pieces[0].read(size - len(data))
            if not more:
                self._pieces.pop(0)
            data += more
        return data


def import_mounts(
    folder: Folder, mounts: CacheMounts, source: BinaryIO, wait: Wait = time.sleep
) -> list[CacheMountKey]:
    """Take in what `export_mounts` wrote, compressed or not; return what came.

    Each begins a new generation: what is in use stays with its users. Nothing is taken in unless
    the whole archive is sound. Raises BadArchive, DiskFull.
    """
    scratch = folder.scratch_directory()
    try:
        with disk_errors("import cache mounts", scratch.path):
            pieces = chunks_of(source)
            first = next(pieces, None)
            if first is None:  # who should have written it failed
                raise BadArchive("import cache mounts: there is nothing to read")
            tar = decompressed(chain([first], pieces), name="archive of cache mounts")
            Unpacker(scratch.fd, Policy(whiteouts=False)).run(TarReader(tar))
            found = [
                (_key_in(f"{scratch.path}/{name}"), f"{scratch.path}/{name}/{_TREE}")
                for name in sorted(os.listdir(scratch.path), key=_number)
            ]
        for key, tree in found:
            mounts.replace(key, make=partial(os.rename, tree), wait=wait)
        return [key for key, _ in found]
    finally:
        folder.remove_tree(scratch.path)
        os.close(scratch.fd)


def _number(name: str) -> int:
    if not name.isdecimal():
        raise BadArchive(f"import cache mounts: {name!r} in the archive is no number of a mount")
    return int(name)


def _key_in(path: str) -> CacheMountKey:
    with suppress(OSError, ValueError, KeyError, TypeError):
        fd = os.open(f"{path}/{_RECORD}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            value = json.loads(file.read(1 << 20))
        if value["version"] == VERSION and os.path.lexists(f"{path}/{_TREE}"):
            return CacheMountKey(str(value["id"]), str(value["base"]))
    raise BadArchive("import cache mounts: this is no archive of cache mounts")
