"""`bake --print` and `--list`: what buildx prints. Source: buildx commands/bake.go."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence

from pybuild.bake.blocks import Collected
from pybuild.bake.definitions import Variable
from pybuild.bake.entries import shown
from pybuild.bake.plan import BakePlan
from pybuild.bake.target import KEYS, Target

_SORTED_ENTRIES = ("attest", "cache-from", "cache-to", "output")
# What Go's encoding/json escapes besides.
_GO = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def plan_json(plan: BakePlan) -> str:
    """Return a plan as buildx prints it, without a line end."""
    targets = {name: target_json(plan.targets[name]) for name in sorted(plan.targets)}
    return dumped({"group": groups_json(plan), "target": targets})


def groups_json(plan: BakePlan) -> dict[str, object]:
    """Return the groups of a plan as they are printed."""
    return {
        name: _without_empty(
            description=plan.groups[name].description, targets=plan.groups[name].targets
        )
        for name in sorted(plan.groups)
    }


def target_json(target: Target) -> dict[str, object]:
    """Return a target as it is printed."""
    found: dict[str, object] = {}
    for key in KEYS:
        value = target.values.get(key)
        if value in (None, "", [], {}):
            continue
        if key == "context":
            value = context_of(target)
        elif key == "dockerfile-inline" and isinstance(value, str):
            value = _escaped(value)
        elif key == "annotations":
            value = [_escaped(item) for item in target.texts(key)]
        elif key in ("args", "labels", "extra-hosts", "contexts") and isinstance(value, dict):
            plain = key == "contexts"
            value = {
                name: item if plain or item is None else _escaped(item)
                for name, item in sorted(value.items())
            }
        elif key in ("secret", "ssh", *_SORTED_ENTRIES):
            ordered = key in _SORTED_ENTRIES
            value = [shown(entry, ordered=ordered) for entry in target.entries(key)]
        found[key] = value
    return found


def context_of(target: Target) -> str:
    """Return the main context of a target: a clean path, or an address as it is."""
    where = target.text("context") or "."
    if "://" in where and not where.startswith("cwd://"):
        return where
    if where.startswith("git@"):
        return where
    return posixpath.normpath(where.removeprefix("cwd://") or ".")


def targets_listed(found: Collected) -> list[dict[str, object]]:
    """Return names and descriptions of targets and groups; private ones begin with `_`."""
    rows: list[dict[str, object]] = []
    for name, target in found.targets.items():
        rows.append(_without_empty(name=name, description=target.text("description")))
    for name, group in found.groups.items():
        names = ", ".join(sorted(group.targets))
        text = f"{group.description} ({names})" if group.description else names
        rows.append({**_without_empty(name=name, description=text), "group": True})
    public = [row for row in rows if not str(row["name"]).startswith("_")]
    return sorted(public, key=lambda row: str(row["name"]))


def variables_listed(variables: Sequence[Variable]) -> list[dict[str, object]]:
    """Return variables as JSON shows them."""
    return [
        {
            **_without_empty(name=each.name, description=each.description, type=each.type),
            **({} if each.value is None else {"value": each.value}),
        }
        for each in variables
    ]


def dumped(value: object) -> str:
    """Return a value as Go's json.MarshalIndent writes it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(_GO.get(letter, letter) for letter in text)


def _escaped(text: str) -> str:
    """Return text that evaluates to `text` when it is read as a bake file again."""
    return text.replace("${", "$${").replace("%{", "%%{")


def _without_empty(**fields: object) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value not in ("", None)}


def metadata_json(found: Mapping[str, Mapping[str, object]]) -> str:
    """Return what `--metadata-file` says: each target's under its name."""
    return json.dumps({name: found[name] for name in sorted(found)}, indent=2)
