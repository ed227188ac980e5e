"""`Dockerfile.lock`: what the sources of a build were, as text that people can read and compare.

Pure: values to TOML and back. An image is named with the digest that a registry gives it (what is
pulled) and with its image ID (what it is, also where no registry knows it); a file at an address
with the digest of its bytes; a ref of a git repository with the commit. What names its own content,
`image@sha256:…`, `ADD --checksum`, a commit, needs no entry.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping

from builder.errors import BuildError
from builder.gitref import GitRef, is_commit, without_credentials
from store.digest import Digest, is_digest
from store.errors import InvalidReference
from store.reference import Reference
from values.classes import dataclass, fields

VERSION = 1
_HEAD = """\
# What the sources of the build were, by "pybuild lock". Keep it beside the Dockerfile:
# "pybuild build --locked" takes nothing else, "pybuild lock --update" shows what has moved.
"""
_BROKEN = "mend it by hand, or remove it and run pybuild lock"


@dataclass(frozen=True, slots=True)
class LockedImage:
    """What the name of an image means on a platform.

    name: complete, or `oci-layout://…` as the build was given it. config: the image ID. digest: of
    the index or manifest at the registry, None for an image that no registry is known to have.
    """

    name: str
    platform: str
    config: Digest
    digest: Digest | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What there is one entry for."""
        return ("image", self.name, self.platform)

    @property
    def shown(self) -> str:
        """The source, for people."""
        name = self.name
        if "://" not in name:
            name = Reference.parse(name).familiar()
        return f"{name} ({self.platform})"

    @property
    def value(self) -> Digest:
        """What the source was, by the name that others find it under."""
        return self.digest or self.config


@dataclass(frozen=True, slots=True)
class LockedFile:
    """The digest of the file at an address."""

    url: str
    digest: Digest

    @property
    def key(self) -> tuple[str, ...]:
        """What there is one entry for."""
        return ("file", self.url)

    @property
    def shown(self) -> str:
        """The source, for people."""
        return self.url

    @property
    def value(self) -> str:
        """What the source was."""
        return self.digest


@dataclass(frozen=True, slots=True)
class LockedCommit:
    """The commit that a ref of a git repository leads to; ref "" is the default branch."""

    remote: str
    ref: str
    commit: str

    @property
    def key(self) -> tuple[str, ...]:
        """What there is one entry for."""
        return ("git", self.remote, self.ref)

    @property
    def shown(self) -> str:
        """The source, for people."""
        return f"{self.remote}#{self.ref}" if self.ref else self.remote

    @property
    def value(self) -> str:
        """What the source was."""
        return self.commit


Entry = LockedImage | LockedFile | LockedCommit


@dataclass(frozen=True, slots=True)
class Lock:
    """All entries of a lock, by their keys."""

    entries: Mapping[tuple[str, ...], Entry]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Lock":
        """Return a lock with these entries; a later one of a key wins."""
        return cls({entry.key: entry for entry in entries})

    def image(self, name: str, platform: str) -> LockedImage | None:
        """Return what a name means on a platform."""
        entry = self.entries.get(("image", name, platform))
        return entry if isinstance(entry, LockedImage) else None

    def file(self, url: str) -> LockedFile | None:
        """Return what is at an address."""
        entry = self.entries.get(("file", without_credentials(url)))
        return entry if isinstance(entry, LockedFile) else None

    def commit(self, ref: GitRef) -> LockedCommit | None:
        """Return what a ref of a repository leads to."""
        entry = self.entries.get(("git", without_credentials(ref.remote), ref.ref))
        return entry if isinstance(entry, LockedCommit) else None


def is_pinned(ref: GitRef) -> bool:
    """Tell whether a ref of a repository names a commit by itself."""
    return is_commit(ref.ref) or is_commit(ref.checksum)


# -- text

_TABLES: Mapping[str, type[Entry]] = {
    "image": LockedImage,
    "file": LockedFile,
    "git": LockedCommit,
}


def to_text(lock: Lock) -> str:
    """Return a lock as TOML: always the same text for the same entries."""
    parts = [f"{_HEAD}version = {VERSION}\n"]
    for table, kind in _TABLES.items():
        for key in sorted(key for key in lock.entries if key[0] == table):
            entry = lock.entries[key]
            pairs = ((each.name, getattr(entry, each.name)) for each in fields(kind))
            rows = (f"{name} = {_quoted(text)}\n" for name, text in pairs if text or table == "git")
            parts.append(f"[[{table}]]\n{''.join(rows)}")
    return "\n".join(parts)


def _quoted(text: str) -> str:
    """Return a basic string of TOML: JSON's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def from_text(data: bytes, name: str) -> Lock:
    """Return the lock that a file holds; name: of the file. Raises BuildError."""
    try:
        document = tomllib.loads(data.decode("utf-8", "surrogateescape"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BuildError(f"{name}: not valid TOML: {error}", hint=_BROKEN) from error
    version = document.pop("version", None)
    if type(version) is not int or version < 1:
        raise BuildError(f"{name}: it has no version, and so is no lock", hint=_BROKEN)
    if version > VERSION:
        raise BuildError(
            f"{name}: version {version} is newer than this program knows ({VERSION})",
            hint="use the pybuild that wrote it, or a newer one",
        )
    found: dict[tuple[str, ...], Entry] = {}
    for table, rows in document.items():
        if table not in _TABLES:
            raise BuildError(f'{name}: unknown table "{table}"', hint=_BROKEN)
        for number, row in enumerate(rows if isinstance(rows, list) else [None], start=1):
            where = f"{name}: {table} {number}"
            entry = _entry(table, row, where)
            if entry.key in found:
                raise BuildError(f"{where}: {entry.shown} is there twice", hint=_BROKEN)
            found[entry.key] = entry
    return Lock(found)


def _entry(table: str, row: object, where: str) -> Entry:
    """Return the entry that a table is. Raises BuildError."""
    kind = _TABLES[table]
    names = [each.name for each in fields(kind)]
    if not isinstance(row, dict):
        raise BuildError(f"{where}: no table", hint=_BROKEN)
    for key, value in row.items():
        if key not in names or not isinstance(value, str):
            wrong = f'unknown key "{key}"' if key not in names else f"{key} is no text"
            raise BuildError(f"{where}: {wrong}", hint=_BROKEN)
    values = {key: row.get(key, "") for key in names}
    for key in names:
        if not _CHECKS[table, key](values[key]):
            raise BuildError(f'{where}: invalid {key} "{values[key]}"', hint=_BROKEN)
    # What a table may leave out is not there.
    return kind(**{key: text for key, text in values.items() if text or table == "git"})


def _is_name(text: str) -> bool:
    if text.startswith("oci-layout://"):
        return True
    try:
        return str(Reference.parse(text)) == text
    except InvalidReference:
        return False


def _is_digest_or_none(text: str) -> bool:
    return not text or is_digest(text)


_CHECKS: Mapping[tuple[str, str], Callable[[str], bool]] = {
    ("image", "name"): _is_name,
    ("image", "platform"): lambda text: re.fullmatch(r"[\w.-]+(/[\w.-]+){1,2}", text) is not None,
    ("image", "config"): is_digest,
    ("image", "digest"): _is_digest_or_none,
    ("file", "url"): bool,
    ("file", "digest"): is_digest,
    ("git", "remote"): bool,
    ("git", "ref"): lambda _text: True,
    ("git", "commit"): is_commit,
}


def changes(before: Lock, after: Lock) -> list[str]:
    """Return a line for each entry that one lock has and another has not, or has otherwise."""
    lines = []
    for key in sorted(before.entries.keys() | after.entries.keys()):
        old, new = before.entries.get(key), after.entries.get(key)
        if old == new:
            continue
        either = new or old
        assert either is not None, "the key is of one of them"
        if old is None or new is None:
            sign = "+" if old is None else "-"
            lines.append(f"{sign} {either.shown}: {short(either.value)}")
        else:
            lines.append(f"~ {either.shown}: {short(old.value)} → {short(new.value)}")
    return lines


def short(value: str) -> str:
    """Return a digest or a commit with as many digits as people compare."""
    algorithm, colon, digits = value.rpartition(":")
    return f"{algorithm}{colon}{digits[:12]}"
