"""Entries of lists that are written as text or as an object: caches, outputs, secrets …

Each kind has one form: a dict, as `--print` shows it. Source: buildx util/buildflags.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence

from pybuild.bake.values import WrongValue, kind, text

Entry = dict[str, object]

_SECRET_KEYS = ("id", "src", "env")
_SECRET_ALIASES = {"source": "src"}


def cache_entries(value: object) -> list[Entry]:
    """Return the caches that text or an object means; words without `=` are images."""
    if isinstance(value, str) and "=" not in value:
        return [{"type": "registry", "ref": word} for word in _fields(value)]
    return [_typed(value, "cache")]


def output_entries(value: object) -> list[Entry]:
    """Return the output that text or an object means; a word alone is a folder, `-` stdout."""
    if isinstance(value, str) and "=" not in value and "," not in value:
        return [{"type": "tar" if value == "-" else "local", "dest": value}]
    return [_typed(value, "output")]


def attest_entries(value: object) -> list[Entry]:
    """Return the attestation that text or an object means."""
    entry = _typed(value, "attestation")
    if "disabled" in entry:
        said = entry.pop("disabled")
        if said not in ("true", "false", "1", "0", ""):
            raise WrongValue(f'disabled is "{said}", and neither true nor false')
        if said in ("true", "1", ""):
            entry["disabled"] = True
    return [entry]


def secret_entries(value: object) -> list[Entry]:
    """Return the secret that text or an object means."""
    given = _pairs(value, "secret")
    named = {_SECRET_ALIASES.get(key, key): item for key, item in given.items()}
    type_ = named.pop("type", "")
    for key in named:
        if key not in _SECRET_KEYS:
            known = ", ".join(("type", *_SECRET_KEYS))
            raise WrongValue(f'a secret has no key "{key}"; there is {known}')
    if type_ not in ("", "file", "env"):
        raise WrongValue(f'a secret cannot be of type "{type_}"; there is file and env')
    if type_ == "env" and "env" not in named and "src" in named:
        named["env"] = named.pop("src")
    if not named.get("id"):
        raise WrongValue("a secret needs its id")
    return [{key: named[key] for key in _SECRET_KEYS if named.get(key)}]


def ssh_entries(value: object) -> list[Entry]:
    """Return the key agent that text or an object means."""
    if isinstance(value, str):
        name, equals, paths = value.partition("=")
        return [{"id": name, **({"paths": list(paths.split(","))} if equals else {})}]
    if not isinstance(value, dict):
        raise WrongValue(f"ssh takes text or an object, and this is {kind(value)}")
    paths_given = value.get("paths") or []
    if not isinstance(paths_given, list):
        raise WrongValue("ssh: paths is no list")
    entry: Entry = {"id": text(value.get("id", ""))}
    if paths_given:
        entry["paths"] = [text(path) for path in paths_given]
    return [entry]


def without_repeats(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries, each once."""
    kept: list[Entry] = []
    for entry in entries:
        if entry not in kept:
            kept.append(entry)
    return kept


def newest_of_type(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries of which the last one of a type stands for all of it, in its first place."""
    found: dict[object, Entry] = {}
    for entry in entries:
        found[entry["type"]] = entry
    return list(found.values())


def shown(entry: Entry, *, ordered: bool) -> Entry:
    """Return an entry as it is printed. ordered: by its keys."""
    return {key: entry[key] for key in sorted(entry)} if ordered else entry


PARSERS: Mapping[str, Callable[[object], list[Entry]]] = {
    "attest": attest_entries,
    "cache-from": cache_entries,
    "cache-to": cache_entries,
    "output": output_entries,
    "secret": secret_entries,
    "ssh": ssh_entries,
}


def _typed(value: object, what: str) -> Entry:
    pairs = _pairs(value, what)
    if not pairs.get("type"):
        raise WrongValue(f"type is required for {what}")
    return dict(pairs)


def _pairs(value: object, what: str) -> dict[str, str]:
    """Return the keys and values of CSV or of an object. Raises WrongValue."""
    if isinstance(value, dict):
        return {key: text(item) for key, item in value.items() if item is not None}
    if not isinstance(value, str):
        raise WrongValue(f"{what} takes text or an object, and this is {kind(value)}")
    found = {}
    for field in _fields(value):
        key, equals, item = field.partition("=")
        if not equals:
            raise WrongValue(f'invalid value "{field}": it is no key=value')
        found[key.strip().lower()] = item
    return found


def _fields(value: str) -> list[str]:
    try:
        return next(csv.reader([value], strict=True), [])
    except csv.Error as error:
        raise WrongValue(f"{value}: {error}") from error
