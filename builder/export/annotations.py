"""Annotations of manifests, indexes and their descriptors: `annotation-index[linux/arm64].key`.

Source: BuildKit exporter/containerimage/exptypes/annotations.go; buildx util/buildflags/export.go.
"""

import re
from collections.abc import Iterable

from builder.errors import BuildError
from builder.request import BuildRequest, Output
from store import platforms
from store.oci import Platform
from values.classes import dataclass

LEVELS = ("manifest", "index", "manifest-descriptor", "index-descriptor")
_OPTION = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([^\]]*)\])?\.(.+)")
_FLAG = re.compile(r"([a-z-]+)(?:\[([^\]]*)\])?")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation. level: one of `LEVELS`. platform: None for that of every platform."""

    level: str
    platform: Platform | None
    key: str
    value: str


def of_level(
    annotations: Iterable[Annotation], level: str, platform: Platform | None = None
) -> dict[str, str]:
    """Return the annotations of a level, those of a platform winning over those of all."""
    mine = [item for item in annotations if item.level == level]
    general = {item.key: item.value for item in mine if item.platform is None}
    if platform is None:
        return general
    special = (a for a in mine if a.platform is not None and platforms.fits(platform, a.platform))
    return general | {item.key: item.value for item in special}


def annotations_of(request: BuildRequest, output: Output) -> tuple[Annotation, ...]:
    """Return what a request and one output ask for; the output's win. Raises BuildError."""
    asked = [item for key, value in request.annotations for item in parse_flag(key, value)]
    own = [
        parse_option(key, value) for key, value in output.options if key.startswith("annotation")
    ]
    return (*asked, *own)


def parse_option(key: str, value: str) -> Annotation:
    """Return the annotation that an output's key means. Raises BuildError."""
    found = _OPTION.fullmatch(key)
    if found is None:
        raise BuildError(
            f'--output: invalid annotation key "{key}"',
            hint=f"write annotation.KEY=VALUE, or annotation-TYPE.KEY with {', '.join(LEVELS)}",
        )
    level, platform, name = found.groups()
    return _annotation("--output", level or "manifest", platform, name, value)


def parse_flag(key: str, value: str) -> list[Annotation]:
    """Return the annotations that `--annotation TYPE[platform],TYPE:key=value` means."""
    types, colon, name = key.partition(":")
    if not colon or not re.fullmatch(r"[a-z-]+(\[[^\]]*\])?(,[a-z-]+(\[[^\]]*\])?)*", types):
        return [Annotation("manifest", None, key, value)]
    found = []
    for word in types.split(","):
        match = _FLAG.fullmatch(word)
        assert match is not None, "the types have this form"
        found.append(_annotation("--annotation", match[1], match[2], name, value))
    return found


def _annotation(option: str, level: str, platform: str | None, key: str, value: str) -> Annotation:
    if level not in LEVELS:
        raise BuildError(
            f'{option}: unknown annotation type "{level}"', hint=f"there is {', '.join(LEVELS)}"
        )
    if platform is None:
        return Annotation(level, None, key, value)
    if level.startswith("index"):
        raise BuildError(f"{option}: annotations of type {level} are of no platform")
    try:
        return Annotation(level, platforms.parse(platform), key, value)
    except ValueError as error:
        raise BuildError(f"{option}: {error}") from error
