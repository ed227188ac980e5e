"""Base images for tests, as tars that are always the same bytes."""

import io
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from builds import sources

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
app:x:1000:1000:app:/home/app:/bin/sh
"""
GROUP = """\
root:x:0:
daemon:x:1:
staff:x:50:app
app:x:1000:
nogroup:x:65534:
"""
# What the build cases find in their base image besides busybox.
CASE_ROWS: Sequence[sources.Row] = (
    ("real", "dir 755"),
    ("real/target", "file 644", "t"),
    ("real/inner", "link", "target"),
    ("keep", "dir 2771 5:6"),
    ("plain", "file 644", "x"),
    ("dirlink", "link", "/real"),
    ("filelink", "link", "/real/target"),
    ("dangling", "link", "nowhere"),
    ("toroot", "link", "/"),
    ("above", "link", "../../../../../../../real"),
    ("loop", "link", "loop"),
)


def add_to_tar(archive: tarfile.TarFile, member: tarfile.TarInfo, data: bytes = b"") -> None:
    """Add one member, whose owner is root and whose time is always the same."""
    member.size = len(data)
    member.mtime = 1_700_000_000
    archive.addfile(member, io.BytesIO(data) if data else None)


def folder_member(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    """Return the tar entry of a directory."""
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    return member


def file_member(name: str, mode: int = 0o644) -> tarfile.TarInfo:
    """Return the tar entry of a regular file."""
    member = tarfile.TarInfo(name)
    member.mode = mode
    return member


def link_member(name: str, target: str) -> tarfile.TarInfo:
    """Return the tar entry of a symbolic link."""
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, target
    return member


def applets(busybox: str) -> Sequence[str]:
    """Return the names that `busybox` answers to."""
    listing = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    return sorted(set(listing.stdout.split()) - {"busybox"})


def write_busybox(path: Path, busybox: str, rows: Sequence[sources.Row] = ()) -> None:
    """Write a tar of the smallest root filesystem with a shell; `rows` are what it has besides."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("bin", "etc", "home", "home/app", "proc", "root", "sys", "usr", "usr/bin"):
            add_to_tar(archive, folder_member(name))
        for name in ("dev", "var"):
            add_to_tar(archive, folder_member(name))
        add_to_tar(archive, folder_member("tmp", 0o1777))
        add_to_tar(archive, file_member("bin/busybox", 0o755), Path(busybox).read_bytes())
        for name in applets(busybox):
            add_to_tar(archive, link_member(f"bin/{name}", "busybox"))
        add_to_tar(archive, link_member("usr/bin/env", "../../bin/busybox"))
        add_to_tar(archive, file_member("etc/passwd"), PASSWD.encode())
        add_to_tar(archive, file_member("etc/group"), GROUP.encode())
        for row in rows:
            sources.add_row(archive, row)
