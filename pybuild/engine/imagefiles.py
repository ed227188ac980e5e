"""What is in an image, layer by layer: its tree, how two images differ, who wrote a path.

Owns the reading of layers for people. Refuses to know how it is printed and why a step ran.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pybuild.errors import PybuildError
from values.classes import dataclass

if TYPE_CHECKING:
    from store.buildrecords import BuildRecord
    from store.digest import DiffID, Digest
    from store.images import Image
    from store.layerlisting import LayerEntry, Shown
    from store.oci import HistoryEntry
    from store.root import Store

_UP_TO = re.compile(r"(.+)#([0-9]+)\Z", re.DOTALL)
_REGULAR, _LINK = b"0", b"1"
_KINDS = {
    b"0": "file",
    b"1": "hard link",
    b"2": "symlink",
    b"3": "character device",
    b"4": "block device",
    b"5": "directory",
    b"6": "fifo",
}


@dataclass(frozen=True, slots=True)
class SizedFile:
    """A file of a layer. path: absolute, bytes that are no UTF-8 escaped."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LayerLine:
    """A layer of an image.

    number: from 1. hidden_bytes: of its files that later layers delete or replace: they are
    stored and moved, and nobody sees them. biggest: its biggest files, biggest first.
    """

    number: int
    diff_id: str
    created_by: str
    size_bytes: int
    hidden_bytes: int
    files: int
    deletions: int
    biggest: tuple[SizedFile, ...]


@dataclass(frozen=True, slots=True)
class FileChange:
    """How a path differs between two file systems.

    letter: A added, C changed, D deleted, as docker's `diff` has it. what: for C, what differs.
    size_bytes: how much bigger the second is, negative for smaller.
    """

    letter: str
    path: str
    what: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of the config that differs. old, new: None where one has none."""

    field: str
    old: object
    new: object


@dataclass(frozen=True, slots=True)
class ImageDiff:
    """How two images differ."""

    fields: tuple[FieldChange, ...]
    files: tuple[FileChange, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """A layer that wrote or deleted a path, and the step that made the layer, where it is known.

    deleted: the path went away there. line: of the Dockerfile, 0 where it is not known; build_id
    and the rest are empty then.
    """

    path: str
    kind: str
    deleted: bool
    layer: int
    diff_id: str
    created: str
    created_by: str
    dockerfile: str = ""
    line: int = 0
    stage: str = ""
    step: str = ""
    build_id: str = ""


@dataclass(frozen=True, slots=True)
class _Selected:
    """An image, perhaps only its first layers: `NAME#N`."""

    image: Image
    chain: tuple[DiffID, ...]

    @property
    def is_whole(self) -> bool:
        return len(self.chain) == len(self.image.config.diff_ids)


def tree(store: Store, name: str, biggest: int = 3) -> list[LayerLine]:
    """Return the layers of the image called `name`, base first.

    biggest: how many files to name of each. Raises NotFound, Ambiguous, Corrupt.
    """
    selected = _select(store, name)
    view = _shown(store, selected)
    hidden = Counter[int]()
    for entry in view.hidden:
        hidden[entry.layer] += entry.member.size_bytes
    history = _layer_history(selected.image)
    return [
        _layer_line(store, number, diff_id, history.get(number), hidden[number], biggest)
        for number, diff_id in enumerate(selected.chain)
    ]


def diff(store: Store, first: str, second: str, *, times: bool = False) -> ImageDiff:
    """Return how the image called `second` differs from `first`.

    A name may end in `#N`: the file system as its first N layers make it. times: mtimes count.
    Raises NotFound, Ambiguous, Corrupt.
    """
    old, new = _select(store, first), _select(store, second)
    views = _shown(store, old), _shown(store, new)
    contents = _changed_contents(store, old, new, views)
    files = []
    for path in sorted(views[0].entries.keys() | views[1].entries.keys()):
        before, after = (view.entries.get(path) for view in views)
        change = _file_change(path, before, after, views, times=times)
        if path in contents and change is None:
            size = _size(after, views[1]) - _size(before, views[0])
            change = FileChange("C", _text(path), ("content",), size)
        elif path in contents and change is not None and change.letter == "C":
            change = FileChange("C", change.path, ("content", *change.what), change.size_bytes)
        if change is not None:
            files.append(change)
    whole = old.is_whole and new.is_whole
    return ImageDiff(_field_changes(old.image, new.image) if whole else (), tuple(files))


def blame(store: Store, name: str, path: str) -> list[Written]:
    """Return who wrote or deleted `path` in the image called `name`, the last one first.

    Symlinks on the way to the path's last part are followed. Raises NotFound, Ambiguous, Corrupt;
    PybuildError where no layer ever held the path.
    """
    from store.layerlisting import listing, resolved

    selected = _select(store, name)
    view = _shown(store, selected)
    wanted = resolved(view.entries, path.encode("utf-8", "surrogateescape"))
    history = _layer_history(selected.image)
    found = []
    for number in reversed(range(len(selected.chain))):
        diff_id = selected.chain[number]
        entries = [e for e in listing(store.layers, diff_id, number) if _touches(e, wanted)]
        if entries:
            found.append(_written(store, selected, entries[-1], wanted, history.get(number)))
    if not found or (len(found) == 1 and found[0].deleted):
        hint = "paths are those of the image, from its root"
        raise PybuildError(f"blame {name}: no layer has /{_text(wanted)[1:]}", hint=hint)
    return found


def _select(store: Store, name: str) -> _Selected:
    from store.errors import NotFound

    image_name, count = name, None
    if match := _UP_TO.match(name):
        image_name, count = match[1], int(match[2])
    image = store.images.find(image_name)
    layers = image.config.diff_ids
    if count is not None and count > len(layers):
        raise NotFound(f"{name}: {image_name} has {len(layers)} layers")
    return _Selected(image, layers if count is None else layers[:count])


def _shown(store: Store, selected: _Selected) -> Shown:
    from store.layerlisting import shown

    return shown(store.layers, selected.chain)


def _layer_history(image: Image) -> dict[int, HistoryEntry]:
    """Return the history's entry of each layer, by its place in the chain."""
    with_layer = [entry for entry in image.config.history if not entry.empty_layer]
    return dict(enumerate(with_layer))


def _layer_line(
    store: Store,
    number: int,
    diff_id: DiffID,
    entry: HistoryEntry | None,
    hidden_bytes: int,
    biggest: int,
) -> LayerLine:
    from store.layerlisting import listing

    files = deletions = size = 0
    sized = []
    for found in listing(store.layers, diff_id, number):
        deletions += found.deletes or found.opaque
        if not (found.deletes or found.opaque):
            files += 1
            size += found.member.size_bytes
            if found.member.kind == _REGULAR:
                sized.append((found.member.size_bytes, found.path))
    sized.sort(key=lambda pair: (-pair[0], pair[1]))
    return LayerLine(
        number + 1,
        diff_id,
        (entry.created_by or "") if entry else "",
        size,
        hidden_bytes,
        files,
        deletions,
        tuple(SizedFile(_text(path), count) for count, path in sized[:biggest]),
    )


def _text(path: bytes) -> str:
    return "/" + path.decode("utf-8", "backslashreplace")


# -- differences -----------------------------------------------------------------------------


def _file_change(
    path: bytes,
    before: LayerEntry | None,
    after: LayerEntry | None,
    views: tuple[Shown, Shown],
    *,
    times: bool,
) -> FileChange | None:
    """Return what differs but for the content; None for nothing."""
    size = _size(after, views[1]) - _size(before, views[0])
    if before is None or after is None:
        return FileChange("A" if before is None else "D", _text(path), (), size)
    if before is after:
        return None
    what = tuple(_differences(before, after, views, times=times))
    return FileChange("C", _text(path), what, size) if what else None


def _size(entry: LayerEntry | None, view: Shown) -> int:
    from store.layerlisting import linked

    return linked(view.entries, entry).member.size_bytes if entry is not None else 0


def _differences(
    before: LayerEntry, after: LayerEntry, views: tuple[Shown, Shown], *, times: bool
) -> Iterator[str]:
    from store.layerlisting import linked

    old, new = linked(views[0].entries, before).member, linked(views[1].entries, after).member
    if old.kind != new.kind:
        yield f"{_KINDS.get(old.kind, 'file')} → {_KINDS.get(new.kind, 'file')}"
    if old.mode & 0o7777 != new.mode & 0o7777:
        yield f"mode {old.mode & 0o7777:04o} → {new.mode & 0o7777:04o}"
    if (old.uid, old.gid) != (new.uid, new.gid):
        yield f"owner {old.uid}:{old.gid} → {new.uid}:{new.gid}"
    if old.kind == new.kind == b"2" and old.target != new.target:
        yield f"target {_shown_target(old.target)} → {_shown_target(new.target)}"
    if (old.major, old.minor) != (new.major, new.minor):
        yield f"device {old.major}:{old.minor} → {new.major}:{new.minor}"
    for key in sorted(set(old.xattrs) ^ set(new.xattrs)):
        yield f"xattr {key[0].decode('utf-8', 'backslashreplace')}"
    if times and old.mtime_ns // 10**9 != new.mtime_ns // 10**9:
        yield f"time {old.mtime_ns // 10**9} → {new.mtime_ns // 10**9}"


def _shown_target(target: bytes) -> str:
    return target.decode("utf-8", "backslashreplace")


def _changed_contents(
    store: Store, old: _Selected, new: _Selected, views: tuple[Shown, Shown]
) -> set[bytes]:
    """Return the regular files of both whose bytes differ."""
    from store.layerlisting import digests, linked

    changed: set[bytes] = set()
    doubtful: dict[bytes, tuple[LayerEntry, LayerEntry]] = {}
    for path, first in views[0].entries.items():
        second = views[1].entries.get(path)
        if second is None:
            continue
        before, after = linked(views[0].entries, first), linked(views[1].entries, second)
        if before.member.kind != _REGULAR or after.member.kind != _REGULAR:
            continue
        if before.member.size_bytes != after.member.size_bytes:
            changed.add(path)
        elif (old.chain[before.layer], before.path) != (new.chain[after.layer], after.path):
            doubtful[path] = before, after
    wanted: dict[DiffID, set[bytes]] = defaultdict(set)
    for before, after in doubtful.values():
        wanted[old.chain[before.layer]].add(before.path)
        wanted[new.chain[after.layer]].add(after.path)
    known: dict[tuple[DiffID, bytes], Digest] = {}
    for diff_id, paths in wanted.items():
        found = digests(store.layers, diff_id, paths)
        known.update({(diff_id, path): digest for path, digest in found.items()})
    for path, (before, after) in doubtful.items():
        pair = (old.chain[before.layer], before.path), (new.chain[after.layer], after.path)
        if known.get(pair[0]) != known.get(pair[1]):
            changed.add(path)
    return changed


def _field_changes(old: Image, new: Image) -> tuple[FieldChange, ...]:
    """Return the fields of two configs that differ; lists of pairs (Env, Labels) item by item."""
    before, after = _fields(old), _fields(new)
    return tuple(
        FieldChange(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def _fields(image: Image) -> dict[str, object]:
    fields: dict[str, object] = {
        "Architecture": image.config.architecture,
        "Os": image.config.os,
        "Variant": image.config.variant or None,
        "Author": image.config.author or None,
    }
    for name, value in image.config.config.to_fields().items():
        if name == "Env" and isinstance(value, list):
            pairs = (str(item).partition("=") for item in value)
            fields.update({f"Env {key}": text for key, _, text in pairs})
        elif isinstance(value, Mapping) and name in ("Labels", "ExposedPorts", "Volumes"):
            fields.update({f"{name} {key}": text for key, text in value.items()})
        elif value not in (None, "", [], {}):
            fields[name] = value
    return fields


# -- who wrote a path ------------------------------------------------------------------------


def _touches(entry: LayerEntry, path: bytes) -> bool:
    """Tell whether an entry writes or deletes `path`."""
    if entry.path == path and not entry.opaque:
        return True
    below = path.startswith(entry.path + b"/") if entry.path else bool(path)
    return below and (entry.deletes or entry.opaque)


def _written(
    store: Store, selected: _Selected, entry: LayerEntry, path: bytes, history: HistoryEntry | None
) -> Written:
    diff_id = selected.chain[entry.layer]
    deleted = entry.deletes or entry.opaque
    record = _maker(store, diff_id, selected.chain[: entry.layer])
    line = _line(store, record) if record else 0
    return Written(
        _text(path),
        "" if deleted else _KINDS.get(entry.member.kind, "file"),
        deleted,
        entry.layer + 1,
        diff_id,
        ((history.created if history else None) or (record.created if record else "")) or "",
        (history.created_by if history else "") or "",
        record.dockerfile if record else "",
        line,
        record.stage if record else "",
        record.title if record else "",
        record.build_id if record else "",
    )


def _maker(store: Store, diff_id: DiffID, below: tuple[DiffID, ...]) -> BuildRecord | None:
    """Return the record of the step that made a layer, best one on exactly the chain `below`."""
    makers = store.records.makers(diff_id)
    same = [maker for maker in makers if maker.ingredients.get("parent") == list(below)]
    return next(iter(same or makers), None)


def _line(store: Store, record: BuildRecord) -> int:
    """Return the line of a record's instruction in the build that made it; 0: not known."""
    for step in store.journal.steps(record.build_id):
        line = step.details.get("line")
        if step.key == record.key and isinstance(line, int):
            return line
    return 0
