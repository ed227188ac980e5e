"""What an image holds, file by file, in words: its layers applied in memory.

Every attribute that a layer can carry counts, and hard links are groups: a path of a group other
than its first in order of name is `hard FIRST`.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KINDS = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link"}
KINDS |= {tarfile.FIFOTYPE: "fifo", tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block"}
_SHOWN_BYTES = 60
_XATTR = "SCHILY.xattr."
# What is older was given its time on purpose; the rest is as old as the build.
NEWEST_GIVEN_S = 1_577_836_800  # 2020


@dataclass(eq=False, frozen=True, slots=True)
class File:
    """One file of an image; hard links of it are the same object.

    text: what it is, with its owner, mode and the begin of its content. line: the same with all
    attributes, long content as size and digest.
    """

    text: str
    line: str
    is_dir: bool


def described(archive: tarfile.TarFile, member: tarfile.TarInfo) -> File:
    """Return the file that a layer's entry makes: `file 644 0:0 content`."""
    words = [KINDS[member.type], f"{member.mode & 0o7777:o}", f"{member.uid}:{member.gid}"]
    if member.issym():
        words[1] = member.linkname
    elif member.isdev() and not member.isfifo():
        words.append(f"{member.devmajor},{member.devminor}")
    data = b""
    if member.isreg():
        stream = archive.extractfile(member)
        assert stream is not None
        data = stream.read()
    xattrs = {
        key.removeprefix(_XATTR): value
        for key, value in sorted(member.pax_headers.items())
        if key.startswith(_XATTR)
    }
    head = data[:1000].partition(b"\0")[0].decode(errors="surrogateescape").rstrip("\n")
    text = " ".join([*words, *([head] if member.isreg() else []), *xattrs]).rstrip()
    full = [*words, *([content(data)] if member.isreg() else [])]
    for name, value in xattrs.items():
        full.append(f"{name}={value.encode('utf-8', 'surrogateescape').hex()}")
    # Builders differ in the times of directories that they wrote to.
    if member.mtime < NEWEST_GIVEN_S and not member.isdir():
        full.append(f"@{int(member.mtime)}")
    return File(text, " ".join(full), member.isdir())


def content(data: bytes) -> str:
    """Return short printable text as it is, in quotes; else size and digest."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if len(data) <= _SHOWN_BYTES and text.replace("\n", "").isprintable():
        return json.dumps(text)
    return f"{len(data)}B sha256:{hashlib.sha256(data).hexdigest()[:24]}"


def apply_layer(tar: tarfile.TarFile, found: dict[str, File]) -> None:
    """Change `found` as a layer says: its deletions first, then what it holds."""
    members = [(f"/{member.name}".rstrip("/").replace("/./", "/"), member) for member in tar]
    for path, _ in members:
        folder, name = os.path.split(path)
        hides = folder if name == ".wh..wh..opq" else os.path.join(folder, name[4:])
        if name.startswith(".wh."):
            remove(found, hides, itself=name != ".wh..wh..opq")
    for path, member in members:
        if not path or os.path.basename(path).startswith(".wh."):
            continue
        if member.islnk():
            made = found[f"/{member.linkname.removeprefix('./').lstrip('/')}"]
        else:
            made = described(tar, member)
        if not made.is_dir:
            remove(found, path, itself=True)
        found[path] = made


def remove(found: dict[str, File], path: str, *, itself: bool) -> None:
    """Take away what is below a path."""
    for below in [p for p in found if (itself and p == path) or p.startswith(f"{path}/")]:
        del found[below]


def lines_of(found: Mapping[str, File], *, full: bool) -> dict[str, str]:
    """Return each path with a line that says what is there; `hard OTHER` for further names."""
    first: dict[int, str] = {}
    lines = {}
    for path in sorted(found, key=os.fsencode):
        file = found[path]
        name = first.setdefault(id(file), path)
        lines[path] = f"hard {name}" if name != path else file.line if full else file.text
    return lines


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it is: its files and its config."""

    files: dict[str, File]
    config: dict[str, object]


def read_oci(archive: Path) -> Image:
    """Return the image in an OCI archive whose layers may be compressed by gzip."""
    with tarfile.open(archive) as outer:
        index = json.load(_member(outer, "index.json"))
        manifest = json.load(_blob(outer, index["manifests"][0]["digest"]))
        found: dict[str, File] = {}
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=_blob(outer, layer["digest"])) as tar:
                apply_layer(tar, found)
        return Image(found, json.load(_blob(outer, manifest["config"]["digest"])))


def read_rootfs(path: Path) -> Image:
    """Return the image that a tar of a root file system becomes, without a config."""
    found: dict[str, File] = {}
    with tarfile.open(path) as tar:
        apply_layer(tar, found)
    return Image(found, {})


def read_docker(saved: bytes) -> Image:
    """Return the image in what `docker save` writes."""
    with tarfile.open(fileobj=io.BytesIO(saved)) as outer:
        (manifest,) = json.load(_member(outer, "manifest.json"))
        found: dict[str, File] = {}
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=_member(outer, layer)) as tar:
                apply_layer(tar, found)
        return Image(found, json.load(_member(outer, manifest["Config"])))


def _blob(outer: tarfile.TarFile, digest: str) -> io.BytesIO:
    return _member(outer, f"blobs/sha256/{digest[7:]}")


def _member(outer: tarfile.TarFile, name: str) -> io.BytesIO:
    stream = outer.extractfile(name)
    assert stream is not None
    return io.BytesIO(stream.read())
