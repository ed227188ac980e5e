"""The keys of `--output`: which each type knows, and which values they take.

Checked before anything is built. Source: BuildKit exporter/containerimage/exptypes/keys.go,
exporter/oci, exporter/local; buildx util/buildflags/export.go.
"""

import re
from collections.abc import Callable, Mapping

from builder.errors import BuildError, NotSupportedYet
from builder.export import annotations
from builder.request import FALSE, TRUE, Output
from store.errors import InvalidReference
from store.reference import Reference

Check = Callable[[str, str, Output], None]
COMPRESSIONS = ("uncompressed", "gzip", "zstd")
_ALIASES = {"none": "uncompressed"}
_MOST = {"uncompressed": 0, "gzip": 9, "zstd": 22}


def check_options(output: Output) -> None:
    """Raise BuildError for a key that the output's type does not know, or a wrong value of one."""
    known = KEYS[output.type]
    for key, value in output.options:
        if key.startswith("annotation"):
            if output.type not in _OF_IMAGES:
                raise BuildError(f"--output type={output.type}: there are no annotations to give")
            annotations.parse_option(key, value)
            continue
        if key not in known:
            raise BuildError(
                f'--output type={output.type}: unknown key "{key}"',
                hint=f"there is {', '.join(['type', *known])}",
            )
        known[key](key, value, output)


def compression_name(output: Output) -> str:
    """Return the compression of an output, one of `COMPRESSIONS`."""
    named = output.option("compression") or "gzip"
    return _ALIASES.get(named, named)


def _wrong(key: str, value: str, output: Output, allowed: str) -> BuildError:
    return BuildError(f'--output type={output.type}: invalid {key} "{value}"', hint=allowed)


def _any(_key: str, _value: str, _output: Output) -> None:
    pass


def _switch(key: str, value: str, output: Output) -> None:
    if value.lower() not in (*TRUE, *FALSE):
        raise _wrong(key, value, output, "write true or false")


def _only_true(key: str, value: str, output: Output) -> None:
    _switch(key, value, output)
    if value.lower() in FALSE:
        raise NotSupportedYet(f"--output type={output.type},{key}={value}")


def _compression(key: str, value: str, output: Output) -> None:
    if value == "estargz":
        raise NotSupportedYet(
            f"--output type={output.type}: compression estargz",
            hint=f"there is {', '.join(COMPRESSIONS)}",
        )
    if _ALIASES.get(value, value) not in COMPRESSIONS:
        raise _wrong(key, value, output, f"there is {', '.join(COMPRESSIONS)}")


def _level(key: str, value: str, output: Output) -> None:
    named = compression_name(output)
    most = _MOST.get(named, 0)
    if not value.isdecimal() or int(value) > most:
        raise _wrong(key, value, output, f"for {named} it is a number from 0 to {most}")


def _names(_key: str, value: str, output: Output) -> None:
    for name in value.split(","):
        try:
            Reference.parse(name.strip())
        except InvalidReference as error:
            raise BuildError(
                f"--output type={output.type}: name: {error}",
                hint=error.hint or "as in HOST/NAME:TAG; several with commas",
            ) from error


def _mode(key: str, value: str, output: Output) -> None:
    if value not in ("copy", "delete"):
        raise _wrong(key, value, output, "there is copy and delete")


def _epoch(key: str, value: str, output: Output) -> None:
    if not re.fullmatch(r"\d{0,18}", value):
        raise _wrong(key, value, output, "a number of seconds since 1970")


_OF_LAYERS: Mapping[str, Check] = {
    "name": _names,
    "compression": _compression,
    "compression-level": _level,
    "force-compression": _switch,
    "oci-mediatypes": _switch,
    "rewrite-timestamp": _switch,
    "source-date-epoch": _epoch,
}
_OF_REGISTRIES: Mapping[str, Check] = {
    **_OF_LAYERS,
    "push": _switch,
    "push-by-digest": _switch,
    "registry.insecure": _switch,
    "unpack": _only_true,
    "store": _only_true,
}
_OF_ARCHIVES: Mapping[str, Check] = {**_OF_LAYERS, "dest": _any, "tar": _switch}
_OF_FOLDERS: Mapping[str, Check] = {"dest": _any, "platform-split": _switch}
_OF_IMAGES = ("image", "registry", "oci", "docker")
KEYS: Mapping[str, Mapping[str, Check]] = {
    "image": _OF_REGISTRIES,
    "registry": {key: check for key, check in _OF_REGISTRIES.items() if key != "push"},
    "oci": _OF_ARCHIVES,
    "docker": _OF_ARCHIVES,
    "local": {**_OF_FOLDERS, "mode": _mode},
    "tar": _OF_FOLDERS,
    "cacheonly": {},
}
