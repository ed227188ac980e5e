"""The packages of a root file system, as its package managers' own databases name them.

Knows dpkg, apk, pip (dist-info) and npm (node_modules). Reads through descriptors and follows no
link out of the tree; runs nothing. Files that make no sense are left out: an image is what it is.
"""

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator

from values.classes import dataclass

_LARGEST_BYTES = 64 << 20
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SKIPPED = frozenset({"proc", "sys", "dev"})


@dataclass(frozen=True, slots=True)
class Package:
    """One package. manager: deb, apk, pypi or npm. path: the file that names it, from the root."""

    manager: str
    name: str
    version: str
    architecture: str = ""
    license: str = ""
    path: str = ""


Reader = Callable[[str, str], Iterable[Package]]


def packages_of(root_fd: int) -> list[Package]:
    """Return the packages below the directory `root_fd`, each once, sorted."""
    found: set[Package] = set()
    for folder, names, files, fd in os.fwalk(".", dir_fd=root_fd, follow_symlinks=False):
        path = os.path.normpath(f"/{folder}")
        if path == "/":
            names[:] = [name for name in names if name not in _SKIPPED]
        for name in files:
            reader = _reader(path, name)
            if reader is not None:
                found.update(reader(_text(fd, name), f"{path.rstrip('/')}/{name}"))
    return sorted(found, key=lambda p: (p.manager, p.name, p.version, p.path))


def _reader(folder: str, name: str) -> Reader | None:
    """Return what reads a file, None for one that names no packages."""
    if folder == "/var/lib/dpkg" and name == "status":
        return _dpkg
    if folder == "/var/lib/dpkg/status.d" and not name.endswith(".md5sums"):
        return _dpkg
    if name == "installed" and folder in ("/lib/apk/db", "/usr/lib/apk/db"):
        return _apk
    if name == "METADATA" and folder.endswith(".dist-info"):
        return _pip
    if name == "package.json" and "/node_modules/" in folder:
        return _npm
    return None


def _text(folder_fd: int, name: str) -> str:
    try:
        fd = os.open(name, _FILE, dir_fd=folder_fd)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_BYTES:
            return ""
        return file.read().decode("utf-8", "replace")


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each paragraph of a file in Debian's control format."""
    fields: dict[str, str] = {}
    for line in (*text.splitlines(), ""):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif not line[0].isspace():
            key, _, value = line.partition(":")
            fields.setdefault(key.lower(), value.strip())


def _dpkg(text: str, path: str) -> Iterator[Package]:
    for fields in _paragraphs(text):
        is_installed = "installed" in fields.get("status", "installed").split()
        if "package" in fields and "version" in fields and is_installed:
            architecture = fields.get("architecture", "")
            yield Package("deb", fields["package"], fields["version"], architecture, path=path)


def _apk(text: str, path: str) -> Iterator[Package]:
    for block in text.split("\n\n"):
        # The letters' case counts here: P is the name, p what is provided.
        rows = (line.partition(":") for line in block.splitlines())
        fields = {key: value for key, _, value in rows if len(key) == 1}
        if "P" in fields and "V" in fields:
            yield Package(
                "apk", fields["P"], fields["V"], fields.get("A", ""), fields.get("L", ""), path
            )


def _pip(text: str, path: str) -> Iterator[Package]:
    fields = next(_paragraphs(text), {})
    if fields.get("name") and fields.get("version"):
        license_ = fields.get("license-expression", "")
        yield Package("pypi", fields["name"], fields["version"], "", license_, path)


def _npm(text: str, path: str) -> Iterator[Package]:
    try:
        fields = json.loads(text)
        name, version = fields["name"], fields["version"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return
    if isinstance(name, str) and isinstance(version, str) and name and version:
        license_ = fields.get("license")
        shown = license_ if isinstance(license_, str) else ""
        yield Package("npm", name, version, "", shown, path)
