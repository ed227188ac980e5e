"""Files for build contexts and base images, made from rows of words.

A row is [path, what, content]. What: `file 4755 5:6`, `dir 750`, `link` (content: the target),
`hard` (content: the other name), `fifo 640`, `char 622 1,3`, `socket`, `capable` (a file with
cap_net_raw), `sparse` (content: a size), or an archive, `tar`, `tar.gz`, `tar.bz2`, `tar.xz`,
`tar.zst`, whose content are rows of its own; `cut tar.xz` is one without its end.
Owners default to 0:0 in archives, to whoever runs this on disk. All files are from 2001, in
archives unless a word says `@SECONDS`.
"""

import bz2
import gzip
import io
import lzma
import os
import socket
import stat
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard

Row = Sequence[Any]

TIME_S = 981_173_106
# cap_net_raw, effective: linux/capability.h, VFS_CAP_REVISION_2
CAPABILITY = bytes.fromhex("010000020020" + "00" * 14)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstandard.compress,
}
TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}
TYPES |= {"hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE, "char": tarfile.CHRTYPE}
TYPES |= {"block": tarfile.BLKTYPE, "capable": tarfile.REGTYPE}
MODES = {"dir": 0o755, "link": 0o777, "capable": 0o755}


def make_files(folder: Path, rows: Sequence[Row]) -> None:
    """Make the files that rows describe below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        make_file(os.path.join(folder, row[0]), *parsed(row))
    for row in reversed(rows):
        path = os.path.join(folder, row[0])
        os.utime(path, (TIME_S, TIME_S), follow_symlinks=False)
        parent = os.path.dirname(path)
        while Path(parent) != folder:
            os.utime(parent, (TIME_S, TIME_S))
            parent = os.path.dirname(parent)


def parsed(row: Row) -> tuple[str, list[str], Any]:
    """Return what a row makes: its kind, further words, its content."""
    kind, *words = row[1].split()
    return kind, words, row[2] if len(row) > 2 else ""


def make_file(path: str, kind: str, words: list[str], what: Any) -> None:
    """Make one file on disk."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    mode = MODES.get(kind, 0o644) if not words or kind == "cut" else int(words[0], 8)
    if kind in ("file", "capable"):
        Path(path).write_bytes(what.encode())
    elif kind == "cut":
        Path(path).write_bytes(packed(words.pop(), what)[:-6])
    elif kind in PACKERS:
        Path(path).write_bytes(packed(kind, what))
    else:
        make_special(path, kind, words, what)
    owner = next((word for word in words if ":" in word), None)
    if owner is not None:
        os.chown(path, *map(int, owner.split(":")), follow_symlinks=False)
    if kind not in ("link", "hard", "socket"):
        os.chmod(path, mode)
    if kind == "capable":
        os.setxattr(path, "security.capability", CAPABILITY)


def make_special(path: str, kind: str, words: list[str], what: Any) -> None:
    """Make what is no plain file."""
    match kind:
        case "dir":
            os.makedirs(path, exist_ok=True)
        case "link":
            os.symlink(what, path)
        case "hard":
            os.link(os.path.join(os.path.dirname(path), what), path)
        case "fifo":
            os.mkfifo(path)
        case "char":
            major, minor = words[-1].split(",")
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(int(major), int(minor)))
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
        case "sparse":
            with open(path, "wb") as file:
                file.truncate(int(what))
                file.write(b"begin")
        case _:
            raise ValueError(f"{path}: unknown kind {kind}")


def packed(kind: str, rows: Sequence[Row]) -> bytes:
    """Return an archive of rows."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for row in rows:
            add_row(archive, row)
    return PACKERS[kind](buffer.getvalue())


def add_row(archive: tarfile.TarFile, row: Row) -> None:
    """Add what a row describes to an archive."""
    kind, words, what = parsed(row)
    member = tarfile.TarInfo(row[0])
    member.type, member.mtime = TYPES[kind], TIME_S
    member.mode = int(words[0], 8) if words else MODES.get(kind, 0o644)
    for word in words[1:]:
        if ":" in word:
            member.uid, member.gid = map(int, word.split(":"))
        elif word.startswith("@"):
            member.mtime = int(word[1:])
        elif "," in word:
            member.devmajor, member.devminor = map(int, word.split(","))
    if kind in ("link", "hard"):
        member.linkname = what
    if kind == "capable":
        text = CAPABILITY.decode("utf-8", "surrogateescape")
        member.pax_headers["SCHILY.xattr.security.capability"] = text
    data = what.encode() if kind in ("file", "capable") else b""
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
