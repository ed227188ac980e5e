"""Image references: registry/repository:tag@digest, normalised as docker does.

Pure text; knows neither registries nor the store.
Source: distribution/reference `reference.go` and `normalize.go`.
"""

import re

from store.digest import Digest, is_digest
from store.errors import InvalidReference
from values.classes import dataclass, replace

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_REGISTRY = "index.docker.io"
_OFFICIAL = "library"
_NAME_LIMIT_BYTES = 255

# Compiled when first used: that takes as long as the rest of this module.
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_REGISTRY = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?\Z"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"{_COMPONENT}(?:/{_COMPONENT})*\Z"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z"
_BARE_HEX = r"[0-9a-f]{64}\Z"


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of an image, complete: registry and repository are always there.

    tag: None when the reference has only a digest. digest: None when it has only a tag.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Return the reference that `text` means: `debian` is docker.io/library/debian:latest.

        Raises InvalidReference.
        """
        name, at, digest = text.partition("@")
        if at and not is_digest(digest):
            raise _invalid(text, f"{digest!r} is no sha256 digest")
        name, tag = _split_tag(name)
        if tag is not None and not re.match(_TAG, tag):
            raise _invalid(text, f"{tag!r} is no tag")
        if not at and tag is None:
            tag = DEFAULT_TAG
        registry, repository = _split_registry(name)
        _check_name(text, registry, repository)
        return cls(registry, repository, tag, Digest(digest) if at else None)

    @classmethod
    def parse_new(cls, text: str) -> "Reference":
        """Return the name that `text` is, to be given to an image.

        Raises InvalidReference also for one with a digest, and for `sha256:…`, which could never
        be told from an image ID. Source: docker's tag and its daemon's.
        """
        reference = cls.parse(text)
        if reference.digest is not None:
            raise _invalid(text, "a name with a digest cannot be given to an image")
        if reference.familiar_name == "sha256":
            raise _invalid(text, "with the name of a digest's algorithm it would be ambiguous")
        return reference

    @property
    def name(self) -> str:
        """registry/repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The name as people write it: without docker.io and library."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        owner, _, rest = self.repository.partition("/")
        if owner == _OFFICIAL and rest and "/" not in rest:
            return rest
        # Without its registry a first part such as `localhost` would read as one.
        return self.name if _is_registry(owner) and rest else self.repository

    def familiar(self) -> str:
        """Return the reference as people write it: `debian:latest`, `host:5000/a/b@sha256:…`."""
        return self.familiar_name + self._suffix()

    def __str__(self) -> str:
        """Return the complete spelling, which `parse` reads back as an equal value."""
        return self.name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def with_tag(self, tag: str) -> "Reference":
        """Return this repository's reference with `tag` and without a digest."""
        if not re.match(_TAG, tag):
            raise _invalid(f"{self.familiar_name}:{tag}", f"{tag!r} is no tag")
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> "Reference":
        """Return this reference pinned to `digest`; the tag stays."""
        if not is_digest(digest):
            raise _invalid(f"{self.familiar_name}@{digest}", f"{digest!r} is no sha256 digest")
        return replace(self, digest=digest)


def _split_tag(name: str) -> tuple[str, str | None]:
    """Split `registry:5000/name:tag`; the tag is None where there is none."""
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag or (name.startswith("[") and "/" not in name):
        return name, None
    return head, tag


def _is_registry(part: str) -> bool:
    """Tell whether the part before the first slash means a host.

    Upper case does: no repository has it, and docker reads `MyHost/x` so.
    """
    return "." in part or ":" in part or part == "localhost" or part != part.lower()


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not _is_registry(first):
        registry, repository = DEFAULT_REGISTRY, name
    else:
        registry, repository = first, rest
    if registry == _LEGACY_REGISTRY:
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and repository and "/" not in repository:
        repository = f"{_OFFICIAL}/{repository}"
    return registry, repository


def _check_name(text: str, registry: str, repository: str) -> None:
    if re.match(_BARE_HEX, text):
        raise _invalid(text, "64 hexadecimal digits are an image ID")
    if not re.match(_REGISTRY, registry):
        raise _invalid(text, f"{registry!r} is no registry")
    if not repository or repository == f"{_OFFICIAL}/":
        raise _invalid(text, "the repository is empty")
    if not re.match(_REPOSITORY, repository):
        if re.match(_REPOSITORY, repository.lower()):
            shown = repository if repository in text else repository.removeprefix(f"{_OFFICIAL}/")
            raise _invalid(text, "the repository must be lower case", hint=f"use {shown.lower()}")
        raise _invalid(text, f"{repository!r} is no repository")
    if len(f"{registry}/{repository}") > _NAME_LIMIT_BYTES:
        raise _invalid(text, f"the name is longer than {_NAME_LIMIT_BYTES} bytes")


def _invalid(text: str, cause: str, hint: str | None = None) -> InvalidReference:
    return InvalidReference(f"invalid reference {text!r}: {cause}", hint=hint)
