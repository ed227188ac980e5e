"""`--set TARGET.KEY=VALUE`: which targets, which key, and what becomes of it.

Source: buildx bake/bake.go, newOverrides and AddOverrides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from pybuild.bake.definitions import close
from pybuild.bake.entries import PARSERS, Entry, newest_of_type
from pybuild.bake.syntax import Place
from pybuild.bake.target import KEYS, Target
from pybuild.errors import BakeError
from values.classes import dataclass

# buildx calls some keys otherwise here than in files.
_ALIASES = {"platform": "platforms", "secrets": "secret"}
_NAMED = ("args", "contexts", "labels", "extra-hosts")
_LISTS = (
    *("annotations", "attest", "cache-from", "cache-to", "entitlements", "no-cache-filter"),
    *("output", "platforms", "secret", "ssh", "tags", "ulimits"),
)
_ALWAYS_ADDED = ("annotations", "attest", "entitlements")
_SWITCHES = ("no-cache", "pull", "push", "load")
_NEVER = ("inherits", "description")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_PUSHED: Entry = {"push": "true", "type": "image"}


@dataclass(frozen=True, slots=True)
class Override:
    """What becomes of a key: values of a list in order, or one value. name: of args.NAME."""

    key: str
    name: str
    values: tuple[str, ...]
    is_added: bool = False
    shown: str = ""

    def apply(self, target: Target) -> None:
        """Change a target. Raises BakeError."""
        place = Place("--set", f" {self.shown}")
        if self.key in ("push", "load"):
            is_on = self._switch()
            change = _push if self.key == "push" else _load
            target.values["output"] = change(target.entries("output"), is_on=is_on)
        elif self.key in _NAMED:
            known = target.values.get(self.key)
            named = known if isinstance(known, dict) else {}
            target.values[self.key] = {**named, self.name: self.values[-1]}
        elif self.key in PARSERS or self.key in _LISTS:
            self._apply_list(target, place)
        elif self.key in _SWITCHES:
            target.values[self.key] = self._switch()
        else:
            target.set(self.key, self.values[-1], place)

    def _apply_list(self, target: Target, place: Place) -> None:
        fresh = Target(target.name)
        fresh.set(self.key, [value for value in self.values if value], place)
        made = fresh.entries(self.key)
        kept = target.entries(self.key) if self.is_added or self.key in _ALWAYS_ADDED else []
        target.values[self.key] = [*kept, *made]
        if self.key == "attest":
            target.values["attest"] = newest_of_type(target.entries("attest"))

    def _switch(self) -> bool:
        if self.values[-1] not in (*_TRUE, *_FALSE):
            raise BakeError(
                f"--set {self.shown}: invalid value {self.values[-1]} for boolean key {self.key}",
                hint="write true or false",
            )
        return self.values[-1] in _TRUE


def parse_overrides(words: Sequence[str], targets: Sequence[str]) -> Mapping[str, list[Override]]:
    """Return what the words of `--set` change, by the names of targets. Raises BakeError."""
    found: dict[str, list[Override]] = {}
    for word in words:
        override, pattern = _parsed(word)
        if override is None:
            continue
        for name in _matching(pattern, targets, word):
            known = found.setdefault(name, [])
            same = [o for o in known if (o.key, o.name) == (override.key, override.name)]
            if same and override.key in _LISTS:
                # Several words for one list are one list.
                values = (*same[0].values, *override.values)
                known[known.index(same[0])] = Override(
                    override.key, override.name, values, override.is_added, override.shown
                )
            else:
                known.append(override)
    return found


def _parsed(word: str) -> tuple[Override | None, str]:
    """Return what a word changes and the pattern of its targets; nothing without a value."""
    left, equals, value = word.partition("=")
    is_added = left.endswith("+")
    names = left.removesuffix("+").split(".", 2)
    if len(names) < 2 or not names[0] or not names[1]:
        raise BakeError(
            f"invalid override key {left}, expected target.name", hint="as in --set app.tags=x:1"
        )
    pattern, key = names[0], _ALIASES.get(names[1], names[1])
    name = names[2] if len(names) == 3 else ""
    known = (*(k for k in KEYS if k not in _NEVER), "push", "load", *_ALIASES)
    if key not in known:
        raise BakeError(
            f"--set {word}: unknown key: {key}",
            hint=close(key, known) or f"there is {', '.join(sorted(known))}",
        )
    if key in _NAMED and not name:
        raise BakeError(f"invalid key {left}, {key} requires name", hint=f"as in {left}.NAME=…")
    if key not in _NAMED and name:
        raise BakeError(f"invalid key {left}: {key} has no names in it")
    if not equals:
        if key != "args":
            raise BakeError(f"invalid override {word}, expected target.name=value")
        if name not in os.environ:
            return None, pattern
        value = os.environ[name]
    return Override(key, name, (value,), is_added, word), pattern


def _matching(pattern: str, targets: Sequence[str], word: str) -> list[str]:
    if pattern in targets:
        return [pattern]
    found = [name for name in targets if fnmatchcase(name, pattern)]
    if not found:
        raise BakeError(
            f"--set {word}: could not find any target matching '{pattern}'",
            hint=close(pattern, targets) or f"targets: {', '.join(targets) or 'none'}",
        )
    return found


def _push(outputs: Sequence[Entry], *, is_on: bool) -> list[Entry]:
    """Return outputs that push, or that do not."""
    if not is_on:
        kept = [entry for entry in outputs if entry["type"] != "registry"]
        return [{**e, "push": "false"} if e["type"] == "image" else e for e in kept]
    changed = [{**e, "push": "true"} if e["type"] == "image" else e for e in outputs]
    if all(entry["type"] == "docker" for entry in changed):
        changed.append(dict(_PUSHED))
    return changed


def _load(outputs: Sequence[Entry], *, is_on: bool) -> list[Entry]:
    """Return outputs of which one keeps the image in the store, where they are images at all."""
    if not is_on:
        return list(outputs)
    for entry in outputs:
        if entry["type"] == "docker" and not entry.get("dest"):
            return list(outputs)
        if entry["type"] not in ("docker", "image", "registry", "oci"):
            return list(outputs)
    return [*outputs, {"type": "docker"}]
