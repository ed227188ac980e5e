"""Named contexts, `--build-context name=where`: which names they stand for, and what is there.

Pure: values from text. A name is the one that FROM, COPY --from or RUN --mount=from give, also
that of a stage, which it then replaces. Source: docker buildx build, "--build-context".
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from builder import gitref
from builder.errors import BuildError
from builder.gitref import GitRef, InvalidGitAddress
from store import platforms
from store.digest import is_digest
from store.errors import InvalidReference
from store.reference import Reference
from values.classes import dataclass

Kind = Literal["local", "image", "layout", "git", "http", "target"]

_TARGET = re.compile(r"target:([A-Za-z0-9_-]+)")
_SCHEME = re.compile(r"([a-z-]+)://")


@dataclass(frozen=True, slots=True)
class NamedContext:
    """One named context.

    name: as it is compared: familiar, without `:latest`; `::os/arch` for one platform only.
    where: a folder (local, layout), an image's name, an address, a target's name. git: what the
    address means.
    tag, digest: which image of a layout.
    """

    name: str
    kind: Kind
    where: str
    git: GitRef | None = None
    tag: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class NamedContexts:
    """All named contexts of a build."""

    by_name: Mapping[str, NamedContext]

    def find(self, name: str, platform: str) -> NamedContext | None:
        """Return what stands for `name` on a platform, None where nothing does."""
        if not self.by_name:
            return None
        try:
            plain = compared(name)
        except InvalidReference:
            return None
        return self.by_name.get(f"{plain}::{platform}") or self.by_name.get(plain)

    def local(self) -> tuple[NamedContext, ...]:
        """Return those that are folders of this machine."""
        return tuple(item for item in self.by_name.values() if item.kind == "local")


def parse_all(pairs: Iterable[tuple[str, str]]) -> NamedContexts:
    """Return named contexts from names and places; a later one of a name wins.

    Raises BuildError.
    """
    found = (parse(name, where) for name, where in pairs)
    return NamedContexts({item.name: item for item in found})


def parse(name: str, where: str) -> NamedContext:
    """Return the context that a name and a place mean. Raises BuildError."""
    plain, separator, platform = name.partition("::")
    try:
        key = compared(plain)
    except InvalidReference as error:
        raise BuildError(f"invalid context name {name}: {error}", hint=error.hint) from error
    if separator:
        key = f"{key}::{_platform(platform, name)}"
    if not where:
        raise BuildError(f"build context {name}: no place", hint="write name=PATH or name=URL")
    return _placed(key, where)


def compared(name: str) -> str:
    """Return a name as names of contexts are compared. Raises InvalidReference."""
    return Reference.parse(name).familiar().removesuffix(":latest")


def _platform(text: str, name: str) -> str:
    try:
        return str(platforms.parse(text))
    except ValueError as error:
        raise BuildError(f"invalid context name {name}: {error}") from error


def target_of(where: str) -> str | None:
    """Return the target that the place `target:NAME` means, None for any other place."""
    found = _TARGET.fullmatch(where)
    return found[1] if found else None


def _placed(key: str, where: str) -> NamedContext:
    target = target_of(where)
    if target is not None:
        return NamedContext(key, "target", target)
    try:
        git = gitref.parse_context(where)
    except InvalidGitAddress as error:
        raise BuildError(f"build context {key}: {where}: {error}") from error
    if git is not None:
        return NamedContext(key, "git", where, git=git)
    scheme = _SCHEME.match(where)
    rest = where[scheme.end() :] if scheme else where
    match scheme[1] if scheme else "":
        case "http" | "https":
            return NamedContext(key, "http", where)
        case "docker-image":
            _check_image(key, rest)
            return NamedContext(key, "image", rest)
        case "oci-layout":
            return _layout(key, rest)
        case "":
            return NamedContext(key, "local", where)
    raise BuildError(
        f"build context {key}: unsupported context source {where}",
        hint="a folder, docker-image://, oci-layout://, or the address of a git repository or file",
    )


def _check_image(key: str, name: str) -> None:
    if name == "scratch":
        return
    try:
        Reference.parse(name)
    except InvalidReference as error:
        raise BuildError(f"build context {key}: {error}", hint=error.hint) from error


def _layout(key: str, rest: str) -> NamedContext:
    path, at, digest = rest.partition("@")
    if at and not is_digest(digest):
        raise BuildError(f"build context {key}: invalid digest {digest}")
    folder, colon, tag = path.rpartition(":")
    if not colon or "/" in tag:
        folder, tag = path, ""
    if not folder:
        raise BuildError(
            f"build context {key}: no folder", hint="oci-layout://FOLDER[:TAG|@DIGEST]"
        )
    return NamedContext(key, "layout", folder, tag=tag, digest=digest)
