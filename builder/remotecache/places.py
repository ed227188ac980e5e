"""The values of `--cache-from` and `--cache-to`, checked before anything is built.

Source: BuildKit `cache/remotecache`, docs.docker.com "Cache storage backends".
"""

import importlib.util
import os
import re
from collections.abc import Callable, Mapping

from builder.errors import BuildError, NotSupportedYet
from builder.request import FALSE, TRUE, BuildRequest, CachePlace
from store.digest import is_digest
from store.errors import InvalidReference
from store.manifests import Compression
from store.reference import Reference

TYPES = ("registry", "local", "inline", "s3")
_LATER = ("gha", "azblob")
MODES = ("min", "max")
COMPRESSIONS = ("gzip", "zstd", "uncompressed")
_LONGEST_TAG = 128 - 50  # what a record's name takes
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
_Check = Callable[[str, CachePlace], str | None]


def check_places(request: BuildRequest) -> None:
    """Raise BuildError for a place of the cache that cannot be, or a wrong value of one."""
    for option, places in (("--cache-from", request.cache_from), ("--cache-to", request.cache_to)):
        for place in places:
            _check(option, place)


def mode_of(place: CachePlace) -> str:
    """Return how much is exported: min, what the results are made of, or max."""
    return place.option("mode") or "min"


def compression_of(place: CachePlace) -> Compression:
    """Return how exported layers are compressed."""
    name, level = place.option("compression") or "gzip", place.option("compression-level")
    named = Compression.parse("none" if name == "uncompressed" else name)
    return Compression(
        named.algorithm,
        int(level) if level and named.algorithm != "none" else None,
        place.is_on("force-compression"),
    )


def _check(option: str, place: CachePlace) -> None:
    what = f"{option} type={place.type}"
    if place.type in _LATER:
        raise NotSupportedYet(what, hint=f"there is {', '.join(TYPES)}")
    if place.type not in TYPES:
        raise BuildError(f"{what}: no such type", hint=f"there is {', '.join(TYPES)}")
    known = (FROM_KEYS if option == "--cache-from" else TO_KEYS)[place.type]
    if known is None:
        raise BuildError(
            f"{what}: an inline cache is read from its image",
            hint="write type=registry,ref=IMAGE",
        )
    for key, value in place.options:
        if key not in known:
            raise BuildError(
                f'{what}: unknown key "{key}"', hint=f"there is {', '.join(['type', *known])}"
            )
        allowed = known[key](value, place)
        if allowed is not None:
            raise BuildError(f'{what}: invalid {key} "{value}"', hint=allowed)
    for key in _REQUIRED[place.type].get(option, ()):
        if not place.option(key):
            raise BuildError(f"{what}: {key} is required", hint=f"as in type={place.type},{key}=…")
    if place.type == "s3" and importlib.util.find_spec("boto3") is None:
        raise BuildError(f"{what}: boto3 is not installed", hint="pip install 'pybuild[s3]'")


def _any(_value: str, _place: CachePlace) -> str | None:
    return None


def _switch(value: str, _place: CachePlace) -> str | None:
    return None if value.lower() in (*TRUE, *FALSE) else "write true or false"


def _mode(value: str, _place: CachePlace) -> str | None:
    return None if value in MODES else "there is min and max"


def _min(value: str, _place: CachePlace) -> str | None:
    return None if value == "min" else "an inline cache is of mode min"


def _compression(value: str, _place: CachePlace) -> str | None:
    return None if value in COMPRESSIONS else f"there is {', '.join(COMPRESSIONS)}"


def _level(value: str, place: CachePlace) -> str | None:
    most = {"gzip": 9, "zstd": 22}.get(place.option("compression") or "gzip", 0)
    if value.isdecimal() and int(value) <= most:
        return None
    return f"it is a number from 0 to {most}"


def _reference(value: str, _place: CachePlace) -> str | None:
    try:
        reference = Reference.parse(value)
    except InvalidReference as error:
        return str(error)
    if reference.tag is None:
        return "name a tag instead of a digest: records are added to it"
    return None if len(reference.tag) <= _LONGEST_TAG else f"at most {_LONGEST_TAG} letters of tag"


def _tag(value: str, _place: CachePlace) -> str | None:
    fits = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value) and len(value) <= _LONGEST_TAG
    return None if fits else "letters, digits, dots and dashes"


def _folder(value: str, _place: CachePlace) -> str | None:
    return "it is no folder" if os.path.exists(value) and not os.path.isdir(value) else None


def _number(value: str, _place: CachePlace) -> str | None:
    return None if value.isdecimal() and int(value) > 0 else "a number above 0"


def _digest(value: str, _place: CachePlace) -> str | None:
    return None if is_digest(value) else "as in sha256:…, of a manifest of the folder's index"


def _duration(value: str, _place: CachePlace) -> str | None:
    return None if duration_s(value) is not None else "a time such as 24h or 30m, or 0"


def duration_s(text: str) -> float | None:
    """Return the seconds that `1h30m` means, None where it is no duration. Source: Go's time."""
    if text == "0":
        return 0.0
    pieces = _DURATION.findall(text)
    if not pieces or "".join(amount + unit for amount, unit in pieces) != text:
        return None
    return sum(float(amount) * _UNITS_S[unit] for amount, unit in pieces)


_EXPORT: Mapping[str, _Check] = {
    "mode": _mode,
    "compression": _compression,
    "compression-level": _level,
    "force-compression": _switch,
    "oci-mediatypes": _switch,
    "image-manifest": _switch,
    "ignore-error": _switch,
}
_REGISTRY: Mapping[str, _Check] = {"ref": _reference, "registry.insecure": _switch}
_S3: Mapping[str, _Check] = {
    "bucket": _any,
    "region": _any,
    "prefix": _any,
    "blobs_prefix": _any,
    "manifests_prefix": _any,
    "name": _tag,
    "endpoint_url": _any,
    "use_path_style": _switch,
    "access_key_id": _any,
    "secret_access_key": _any,
    "session_token": _any,
    "retry_mode": lambda value, _: (
        None
        if value in ("standard", "adaptive", "legacy")
        else ("there is standard, adaptive and legacy")
    ),
    "retry_max_attempts": _number,
    "upload_parallelism": _number,
    "touch_refresh": _duration,
}
FROM_KEYS: Mapping[str, Mapping[str, _Check] | None] = {
    "registry": _REGISTRY,
    "local": {"src": _folder, "tag": _tag, "digest": _digest},
    "inline": None,
    "s3": _S3,
}
TO_KEYS: Mapping[str, Mapping[str, _Check] | None] = {
    "registry": {**_REGISTRY, **_EXPORT},
    "local": {"dest": _folder, "tag": _tag, "reset": _switch, **_EXPORT},
    "inline": {"mode": _min},
    "s3": {**_S3, **_EXPORT},
}
_REQUIRED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "registry": {"--cache-from": ("ref",), "--cache-to": ("ref",)},
    "local": {"--cache-from": ("src",), "--cache-to": ("dest",)},
    "inline": {},
    "s3": {"--cache-from": ("bucket",), "--cache-to": ("bucket",)},
}
