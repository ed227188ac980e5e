"""The devices that `RUN --device` asks for: `vendor/class=name[,required]`, as CDI calls them.

Pure. No device is known here: a step that can do without its device runs without, as BuildKit has
it where a device is not registered. Source: BuildKit, instructions/commands_rundevice.go.
"""

import csv

from grammar import flags
from grammar.errors import shown
from values.classes import dataclass

_KEYS = ("name", "required")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True, slots=True)
class Device:
    """A device by its name; a step that requires it cannot run without."""

    name: str
    is_required: bool = False


def parse_device(text: str) -> Device:
    """Return what the value of a --device means. Raises ValueError."""
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise ValueError(f"no list of fields: {error}") from error
    name, is_required = "", False
    for field in fields:
        key, equals, value = field.partition("=")
        key = key.lower()
        if key == "required":
            if equals and value not in _TRUE + _FALSE:
                raise ValueError(f"invalid value for required: {value}")
            is_required = not equals or value in _TRUE
        elif key == "name" and equals:
            if name:
                raise ValueError(f"the name is {name} already")
            name = value
        elif not name:
            name = field
        elif equals:
            hint = flags.did_you_mean(key, _KEYS)
            raise ValueError(f"unexpected key {shown(key)}" + (f" ({hint})" if hint else ""))
        else:
            raise ValueError(f"{shown(field)} is no key=value")
    if not name:
        raise ValueError("it names no device")
    return Device(name, is_required)
