"""One target: its keys, what their values are, and how several definitions become one.

Source: buildx bake/bake.go, Target, Merge and normalize; docs/bake-reference.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pybuild.bake.definitions import close
from pybuild.bake.entries import PARSERS, Entry, newest_of_type, without_repeats
from pybuild.bake.syntax import Place
from pybuild.bake.values import WrongValue, items, mapping, text, truth
from pybuild.errors import BakeError
from values.classes import dataclass, field


def _texts(value: object) -> list[str]:
    return [text(item) for item in items(value)]


def _texts_by_name(value: object) -> dict[str, str | None]:
    return {k: None if item is None else text(item) for k, item in mapping(value).items()}


def _places_by_name(value: object) -> dict[str, str]:
    return {key: text(item) for key, item in mapping(value).items() if item is not None}


def _entries(key: str) -> Callable[[object], list[Entry]]:
    parse = PARSERS[key]
    return lambda value: [e for item in items(value) if item != "" for e in parse(item)]


# What a key's value is, in the order in which `--print` shows them.
KEYS: Mapping[str, Callable[[object], object]] = {
    "description": text,
    "inherits": _texts,
    "annotations": _texts,
    "attest": _entries("attest"),
    "context": text,
    "contexts": _places_by_name,
    "dockerfile": text,
    "dockerfile-inline": text,
    "args": _texts_by_name,
    "labels": _texts_by_name,
    "tags": _texts,
    "cache-from": _entries("cache-from"),
    "cache-to": _entries("cache-to"),
    "target": text,
    "secret": _entries("secret"),
    "ssh": _entries("ssh"),
    "platforms": _texts,
    "output": _entries("output"),
    "pull": truth,
    "no-cache": truth,
    "network": text,
    "no-cache-filter": _texts,
    "shm-size": text,
    "ulimits": _texts,
    "call": text,
    "entitlements": _texts,
    "extra-hosts": _texts_by_name,
}
LATER = ("policy", "resource", "resources")
_ADDED = (
    *("annotations", "attest", "cache-from", "entitlements", "inherits", "no-cache-filter"),
    *("secret", "ssh", "ulimits"),
)
_BY_NAME = ("args", "contexts", "extra-hosts", "labels")
_DISTINCT = (
    *("annotations", "tags", "platforms", "no-cache-filter", "ulimits", "entitlements"),
    *("cache-from", "cache-to", "output", "secret", "ssh"),
)


@dataclass(slots=True)
class Target:
    """A target as it is defined: values by their keys; None-less.

    is_linked: it is there only because another one stands on it.
    """

    name: str
    values: dict[str, object] = field(default_factory=dict)
    is_linked: bool = False

    def text(self, key: str) -> str:
        """Return the value of a key that is text, "" where there is none."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def texts(self, key: str) -> list[str]:
        """Return the value of a key that is a list of texts."""
        value = self.values.get(key)
        return value if isinstance(value, list) else []

    def entries(self, key: str) -> list[Entry]:
        """Return the value of a key that is a list of entries."""
        value = self.values.get(key)
        return value if isinstance(value, list) else []

    def by_name(self, key: str) -> dict[str, str]:
        """Return the value of a key that is an object, without what is null in it."""
        value = self.values.get(key)
        found = value if isinstance(value, dict) else {}
        return {name: item for name, item in found.items() if item is not None}

    def is_on(self, key: str) -> bool:
        """Tell whether a key that is a switch is on."""
        return self.values.get(key) is True

    def set(self, key: str, value: object, place: Place) -> None:
        """Give a key its value. Raises BakeError for an unknown key and for a wrong value."""
        if key in LATER:
            raise place.error(f"target {self.name}: {key} is not supported yet")
        if key not in KEYS:
            hint = close(key, tuple(KEYS)) or f"there is {', '.join(KEYS)}"
            raise place.error(f'target {self.name}: unknown key "{key}"', hint)
        if value is None:
            return
        try:
            self.values[key] = KEYS[key](value)
        except WrongValue as error:
            raise place.error(f"target {self.name}: {key}: {error}") from error

    def merge(self, other: Target) -> None:
        """Take over what another definition says: it wins, or is added."""
        for key, value in other.values.items():
            if key in _BY_NAME:
                named = self.by_name(key)
                added = {n: item for n, item in other._all(key).items() if item is not None}
                self.values[key] = {**named, **added}
            elif key in _ADDED and isinstance(value, list):
                self.values[key] = [*self.entries(key), *value]
            elif key != "description" or value:
                self.values[key] = value
        if "attest" in self.values:
            self.values["attest"] = newest_of_type(self.entries("attest"))

    def _all(self, key: str) -> dict[str, str | None]:
        value = self.values.get(key)
        return value if isinstance(value, dict) else {}

    def normalize(self) -> None:
        """Leave out what is there twice and what is empty."""
        for key in _DISTINCT:
            kept = without_repeats([item for item in self.entries(key) if item])
            if key in self.values:
                self.values[key] = kept
        contexts = {name: where for name, where in self.by_name("contexts").items() if where}
        if "contexts" in self.values:
            self.values["contexts"] = contexts
        if self.text("network") == "host" and "network.host" not in self.texts("entitlements"):
            self.values["entitlements"] = [*self.texts("entitlements"), "network.host"]

    def copy(self) -> Target:
        """Return one more like it."""
        return Target(self.name, dict(self.values), self.is_linked)


@dataclass(slots=True)
class Group:
    """A name for several targets and groups."""

    name: str
    targets: list[str]
    description: str = ""


def check_name(name: str, place: Place) -> None:
    """Raise BakeError for what cannot be the name of a target or a group."""
    if not name or not all(c.isascii() and (c.isalnum() or c in "_-") for c in name):
        raise place.error(f'invalid name "{name}"', "letters, digits, _ and - are allowed")


def unknown_target(name: str, known: Sequence[str], what: str = "") -> BakeError:
    """Return the error for a target that is not there. what: where it is named."""
    public = [each for each in known if not each.startswith("_")]
    hint = close(name, list(known)) or f"targets: {', '.join(public) or 'none'}"
    return BakeError(f"{what}failed to find target {name}", hint=hint)
