"""COPY of a directory to a place where nothing is: its files are made while the layer is written.

The common case of a big COPY. Nothing of the image lies below or beside the files, so they need no
overlay to be written through, and their tar's headers are known without looking at them again. The
rules are those of `copyfiles`, which does everything that is not as plain.
"""

import os
import stat
from collections.abc import Iterator
from functools import partial

from builder.contenthash import Entry, Match
from builder.ops.copyfiles import Target, make_directory, make_special
from builder.ops.filecopy import Attributes, OpenFolder, copy_regular
from builder.rootpath import lstat
from store import manner
from store.filling import Filled, Filling
from store.tarwriter import DIRECTORY, LINK, REGULAR, SYMLINK, Header
from values.classes import replace

_NANO = 1_000_000_000
_KINDS = {"file": REGULAR, "dir": DIRECTORY, "symlink": SYMLINK}


def filling_of(source_root: str, match: Match, destination: str, target: Target) -> Filling | None:
    """Return what copies a directory when the layer is written, None where that cannot be.

    The destination is there then, empty. Raises CopyRefused where a file is in its way.
    """
    if not (match.is_dir and _is_plain(match) and manner.current().all_owners):
        return None
    path = target.follow(target.root, destination)
    place = os.path.join(target.root, path)
    if not path or lstat(place) is not None:
        return None
    base = target.make_parents(destination)
    if base != path or any(not name.startswith("security.") for name in os.listxattr(place)):
        return None  # what is made there would inherit a default ACL
    top = match.entries[0]
    os.utime(place, ns=(top.atime_ns, top.mtime_ns))
    return Filling(os.fsencode(path), partial(_fill, source_root, match, os.fsencode(path), target))


def _is_plain(match: Match) -> bool:
    """Tell whether there are only files, directories and links, without extended attributes."""
    return all(entry.kind in _KINDS and not entry.xattrs for entry in match.entries)


def _fill(source_root: str, match: Match, base: bytes, target: Target, fd: int) -> Iterator[Filled]:
    """Make a match's files in the open directory; yield each with its bytes."""
    here = replace(target, root=f"/proc/self/fd/{fd}")
    source_base = os.path.join(source_root, match.path).rstrip("/")
    directories: list[tuple[str, Entry]] = []
    links: dict[tuple[int, int], str] = {}
    with OpenFolder() as sources, OpenFolder() as places:
        for entry in match.entries:
            if not entry.path:
                continue
            path = f"{here.root}/{entry.path}"
            header = _header(base, entry, here)
            if entry.kind == "dir":
                make_directory(path, entry, here)
                directories.append((path, entry))
                yield header, b""
            elif entry.kind == "symlink":
                make_special(path, entry, here)
                yield header, b""
            elif (first := _first_of(entry, links)) != entry.path:
                os.link(f"{here.root}/{first}", path, follow_symlinks=False)
                target_name = base + b"/" + os.fsencode(first)
                yield header._replace(kind=LINK, size_bytes=0, target=target_name), b""
            else:
                place = places.of(path)
                wanted = Attributes(header.uid, header.gid, header.mode, here.times_of(entry))
                data = copy_regular(sources.of(f"{source_base}/{entry.path}"), place, entry, wanted)
                yield from _with_bytes(header, data, place)
    for path, entry in reversed(directories):
        os.utime(path, ns=here.times_of(entry))


def _first_of(entry: Entry, links: dict[tuple[int, int], str]) -> str:
    """Return the path of the first name of a file that may have several."""
    return (
        entry.path if entry.link_group is None else links.setdefault(entry.link_group, entry.path)
    )


def _with_bytes(header: Header, data: bytes | None, place: tuple[int, str]) -> Iterator[Filled]:
    """Yield a file with its bytes, read from where they are now if they are not at hand."""
    if data is not None:
        yield header, data
        return
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME
    fd = os.open(place[1], flags, dir_fd=place[0])
    try:
        yield header, fd
    finally:
        os.close(fd)


def _header(base: bytes, entry: Entry, target: Target) -> Header:
    uid, gid = target.owner.ids if target.owner else (entry.uid, entry.gid)
    name = base + b"/" + os.fsencode(entry.path)
    mode = 0o777 if entry.kind == "symlink" else stat.S_IMODE(target.mode_of(entry))
    return Header(
        name + b"/" if entry.kind == "dir" else name,
        _KINDS[entry.kind],
        mode,
        uid,
        gid,
        entry.size_bytes if entry.kind == "file" else 0,
        entry.mtime_ns // _NANO,
        os.fsencode(entry.target),
    )
