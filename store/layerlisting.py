"""What layers hold, entry by entry, and what a chain of them shows: read from their headers.

Nothing is mounted and no file's bytes are read, so a listing costs little and needs no privilege
beyond reading the store.
"""

import contextlib
import hashlib
from collections.abc import Generator, Iterator, Sequence, Set

from store import headers
from store.digest import DiffID, Digest
from store.errors import Corrupt
from store.layers import LayerStore
from store.restream import Source, stream
from store.tarreader import Member, TarReader
from values.classes import dataclass

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_ZEROS = bytes(1 << 18)
_DIRECTORY, _LINK, _SYMLINK = b"5", b"1", b"2"
_MOST_LINKS = 40  # as the kernel


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """An entry of a layer.

    path: clean and relative, without the whiteout's prefix. layer: its place in the chain, 0 for
    the base. deletes: the entry is a whiteout. opaque: it hides what is below in this directory.
    """

    path: bytes
    member: Member
    layer: int = 0
    deletes: bool = False
    opaque: bool = False

    @property
    def is_directory(self) -> bool:
        """Whether the entry is a directory."""
        return self.member.kind == _DIRECTORY and not self.deletes and not self.opaque


@dataclass(frozen=True, slots=True)
class Shown:
    """What a chain shows: the entry of each path, and the entries that later layers hid.

    hidden: files that a later layer deleted or replaced, in no special order.
    """

    entries: dict[bytes, LayerEntry]
    hidden: tuple[LayerEntry, ...]


def listing(layers: LayerStore, diff_id: DiffID, number: int = 0) -> Iterator[LayerEntry]:
    """Yield the entries of a layer in the order of its tar, the root itself left out.

    number: the layer's place in its chain. Raises NotFound, Corrupt.
    """
    source = layers.source(diff_id)
    with contextlib.closing(_without_data(source)) as tar:
        reader = TarReader(tar)
        while (member := reader.next()) is not None:
            path = _clean(member.name)
            parent, _, name = path.rpartition(b"/")
            if name == _OPAQUE:
                yield LayerEntry(parent, member, number, opaque=True)
            elif name.startswith(_WHITEOUT):
                gone = name.removeprefix(_WHITEOUT)
                yield LayerEntry(_join(parent, gone), member, number, deletes=True)
            elif path:
                yield LayerEntry(path, member, number)


def shown(layers: LayerStore, chain: Sequence[DiffID]) -> Shown:
    """Return what the layers of `chain`, base first, show together. Raises NotFound, Corrupt."""
    entries: dict[bytes, LayerEntry] = {}
    hidden: list[LayerEntry] = []
    for number, diff_id in enumerate(chain):
        found = list(listing(layers, diff_id, number))
        _delete(entries, hidden, found)
        for entry in found:
            if entry.deletes or entry.opaque:
                continue
            before = entries.get(entry.path)
            if before is not None and not (before.is_directory and entry.is_directory):
                hidden.append(before)
            entries[entry.path] = entry
    return Shown(entries, tuple(hidden))


def digests(layers: LayerStore, diff_id: DiffID, wanted: Set[bytes]) -> dict[bytes, Digest]:
    """Return the digests of the regular files of a layer whose paths are `wanted`.

    Holes count as the zeros that they read as. Of several entries with one path the last counts.
    Raises NotFound, Corrupt.
    """
    found: dict[bytes, Digest] = {}
    with contextlib.closing(stream(layers.source(diff_id))) as tar:
        reader = TarReader(tar)
        while (member := reader.next()) is not None:
            path = _clean(member.name)
            if path in wanted and member.kind == b"0":
                hasher = hashlib.sha256()
                for piece in _with_holes(member, reader.body()):
                    hasher.update(piece)
                found[path] = Digest(f"sha256:{hasher.hexdigest()}")
    return found


def resolved(entries: dict[bytes, LayerEntry], path: bytes) -> bytes:
    """Return where `path` really lies: symlinks on the way are followed, the last part is not."""
    todo, real, links = path.split(b"/")[::-1], list[bytes](), 0
    while todo:
        part = todo.pop()
        if part == b"..":
            del real[-1:]
        elif part not in (b"", b"."):
            entry = entries.get(b"/".join((*real, part)))
            if todo and entry is not None and entry.member.kind == _SYMLINK and links < _MOST_LINKS:
                links += 1
                target = entry.member.target
                real = [] if target.startswith(b"/") else real
                todo += target.split(b"/")[::-1]
            else:
                real.append(part)
    return b"/".join(real)


def linked(entries: dict[bytes, LayerEntry], entry: LayerEntry) -> LayerEntry:
    """Return the entry with the bytes and attributes of `entry`: what a hard link leads to."""
    seen = 0
    while entry.member.kind == _LINK and seen < len(entries):
        target = entries.get(_clean(entry.member.target))
        if target is None or target is entry:
            break
        entry, seen = target, seen + 1
    return entry


def _with_holes(member: Member, body: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what a file reads as, of the runs of data that the tar holds of it."""
    if member.segments is None:
        yield from body
        return
    at, left = 0, b""
    for offset, size_bytes in member.segments:
        yield from _zeros(offset - at)
        at = offset + size_bytes
        while size_bytes:
            piece = left or next(body)
            left, piece = piece[size_bytes:], piece[:size_bytes]
            size_bytes -= len(piece)
            yield piece
    yield from _zeros(member.size_bytes - at)


def _zeros(count: int) -> Iterator[bytes]:
    whole, rest = divmod(count, len(_ZEROS))
    for _ in range(whole):
        yield _ZEROS
    yield _ZEROS[:rest]


def _delete(
    entries: dict[bytes, LayerEntry], hidden: list[LayerEntry], found: list[LayerEntry]
) -> None:
    """Take out what the whiteouts, opaque directories and changed kinds of a layer hide."""
    whole = {entry.path for entry in found if entry.deletes}
    below = {entry.path for entry in found if entry.opaque}
    for entry in found:
        before = entries.get(entry.path)
        if before is not None and before.is_directory and not (entry.is_directory or entry.opaque):
            below.add(entry.path)  # a directory became something else
    if not whole and not below:
        return
    gone = [path for path in entries if path in whole or _has_parent(path, whole | below)]
    for path in gone:
        hidden.append(entries.pop(path))


def _has_parent(path: bytes, folders: set[bytes]) -> bool:
    at = len(path)
    while (at := path.rfind(b"/", 0, at)) > 0:
        if path[:at] in folders:
            return True
    return b"" in folders


def _without_data(source: Source) -> Generator[bytes, None, None]:
    """Yield a layer's tar with zeros for the files' bytes, which stay unread."""
    try:
        file = open(f"{source.path}/headers", "rb", buffering=0)  # noqa: SIM115  closed below
    except FileNotFoundError as error:
        raise Corrupt(f"{source.name}: its header stream is gone") from error
    with file:
        for record in headers.read(file, source.name):
            if isinstance(record, bytes):
                yield record
            else:
                yield from _zeros(record.size_bytes)


def _clean(name: bytes) -> bytes:
    return b"/".join(part for part in name.split(b"/") if part not in (b"", b"."))


def _join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name
