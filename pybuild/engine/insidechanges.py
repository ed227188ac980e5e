"""What was changed inside an entered step: a line a file, and for texts a diff.

Looks at directories as overlay lays them above each other; nothing is mounted.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybuild.sizes import human_size
from store.overlay import Merged, is_opaque, is_whiteout
from values.classes import dataclass

if TYPE_CHECKING:
    from builder.entering import State
    from store.root import Store

_LONGEST_TEXT = 1 << 20
_PROBE_BYTES = 8192


@dataclass(frozen=True, slots=True)
class InsideChange:
    """A path that differs from what was there before.

    letter: A added, C changed, D deleted. old, new: the files where there are any. detail: what is
    said behind the path.
    """

    letter: str
    path: str
    detail: str = ""
    old: bytes | None = None
    new: bytes | None = None


def lines_of(store: Store, state: State, entry: str) -> list[str]:
    """Return what the kept snapshot `entry` changes of a state, line by line."""
    found = []
    for change in changes(store, state, entry):
        found.append(f"{change.letter} {change.path}{change.detail}")
        found += text_diff(change)
    return found


def changes(store: Store, state: State, entry: str) -> Iterator[InsideChange]:
    """Yield what an entry changes of a state, sorted by path."""
    upper = os.fsencode(store.folder.path(store.snapshots.files_of(entry)))
    below = store.snapshots.below(state.chain, state.above)
    yield from _walk(upper, below, b"", whole=store.snapshots.is_whole(entry))


def _walk(folder: bytes, below: Merged, path: bytes, *, whole: bool) -> Iterator[InsideChange]:
    """Yield what a directory changes. whole: it has all that is there, not only what changed."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    hidden = set(_names(below)) if whole or is_opaque(folder) else set()
    for name in sorted({*names, *hidden}):
        here, place = os.path.join(folder, name), b"%b/%b" % (path, name)
        old = below.stat(name)
        if name not in names:
            yield from _gone(below, name, place)
            continue
        new = os.lstat(here)
        if is_whiteout(new):
            yield from _gone(below, name, place)
        elif stat.S_ISDIR(new.st_mode):
            was_directory = old is not None and stat.S_ISDIR(old.st_mode)
            if old is None or not was_directory:
                yield InsideChange("A" if old is None else "C", f"{_shown(place)}/")
            elif _mode(old) != _mode(new):
                yield InsideChange("C", f"{_shown(place)}/", _differences(old, new))
            inner = below.enter(name) if was_directory else Merged()
            yield from _walk(here, inner, place, whole=whole)
        else:
            yield from _file(here, new, below, name, place)


def _file(
    here: bytes, new: os.stat_result, below: Merged, name: bytes, place: bytes
) -> Iterator[InsideChange]:
    found = below.find(name)
    if found is None:
        detail = f" ({_kind(new, here)})"
        yield InsideChange("A", _shown(place), detail, None, _text(here, new))
        return
    old, path = found
    same_content = _content(path, old) == _content(here, new)
    if same_content and _mode(old) == _mode(new):
        return  # its times alone
    sizes = ""
    if stat.S_ISREG(old.st_mode) and stat.S_ISREG(new.st_mode) and not same_content:
        sizes = f" ({human_size(old.st_size)} → {human_size(new.st_size)})"
    elif not same_content:
        sizes = f" ({_kind(old, path)} → {_kind(new, here)})"
    detail = sizes + _differences(old, new)
    texts = (None, None) if same_content else (_text(path, old), _text(here, new))
    yield InsideChange("C", _shown(place), detail, *texts)


def _gone(below: Merged, name: bytes, place: bytes) -> Iterator[InsideChange]:
    found = below.find(name)
    if found is None:
        return
    status, path = found
    if stat.S_ISDIR(status.st_mode):
        yield InsideChange("D", f"{_shown(place)}/")
    else:
        yield InsideChange(
            "D", _shown(place), f" ({_kind(status, path)})", _text(path, status), None
        )


def _names(below: Merged) -> Iterator[bytes]:
    for directory in below.directories:
        for name in os.listdir(directory):
            if below.stat(name) is not None:
                yield name


def _mode(status: os.stat_result) -> tuple[int, int, int]:
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def _differences(old: os.stat_result, new: os.stat_result) -> str:
    parts = []
    if stat.S_IMODE(old.st_mode) != stat.S_IMODE(new.st_mode) and not stat.S_ISLNK(new.st_mode):
        parts.append(f"mode {stat.S_IMODE(old.st_mode):04o} → {stat.S_IMODE(new.st_mode):04o}")
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        parts.append(f"owner {old.st_uid}:{old.st_gid} → {new.st_uid}:{new.st_gid}")
    return f" ({', '.join(parts)})" if parts else ""


def _kind(status: os.stat_result, path: bytes) -> str:
    if stat.S_ISREG(status.st_mode):
        return human_size(status.st_size)
    if stat.S_ISLNK(status.st_mode):
        return f"-> {_shown(os.readlink(path))}"
    kinds = ((stat.S_ISDIR, "directory"), (stat.S_ISFIFO, "fifo"))
    return next((name for test, name in kinds if test(status.st_mode)), "special file")


def _content(path: bytes, status: os.stat_result) -> object:
    """Return what is compared of a file: files of equal size are compared by their bytes."""
    if stat.S_ISLNK(status.st_mode):
        return "link", os.readlink(path)
    if not stat.S_ISREG(status.st_mode):
        return stat.S_IFMT(status.st_mode), status.st_rdev
    return _Bytes(path, status.st_size)


@dataclass(slots=True, eq=False)
class _Bytes:
    """A file's bytes, equal to those of another."""

    path: bytes
    size_bytes: int

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Bytes) or self.size_bytes != other.size_bytes:
            return False
        with open(self.path, "rb") as mine, open(other.path, "rb") as theirs:
            while chunk := mine.read(1 << 20):
                if chunk != theirs.read(1 << 20):
                    return False
        return True

    __hash__ = None  # type: ignore[assignment]


def _text(path: bytes, status: os.stat_result) -> bytes | None:
    """Return the bytes of a text file that is not too long to be shown, else None."""
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LONGEST_TEXT:
        return None
    with open(path, "rb") as file:
        data = file.read()
    if b"\0" in data[:_PROBE_BYTES]:
        return None
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return data


def text_diff(change: InsideChange) -> Iterator[str]:
    """Yield a unified diff of a text file that was changed; of others nothing."""
    if change.old is None or change.new is None:
        return
    old, new = (text.decode().splitlines() for text in (change.old, change.new))
    before, after = f"a{change.path}", f"b{change.path}"
    yield from difflib.unified_diff(old, new, before, after, lineterm="")
    if change.new and not change.new.endswith(b"\n"):
        yield "\\ No newline at end of file"


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
