"""Which targets are to be built, and as what: groups, inheritance, targets that stand on others.

Source: buildx bake/bake.go, ReadTargets, ResolveGroup, ResolveTarget and loadLinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from pybuild.bake.blocks import Collected
from pybuild.bake.overrides import Override, parse_overrides
from pybuild.bake.target import Group, Target, unknown_target
from pybuild.errors import BakeError
from values.classes import dataclass

_LINK = "target:"


@dataclass(frozen=True, slots=True)
class BakePlan:
    """What is to be built. targets: by their names, linked ones too. groups: those on the way."""

    targets: Mapping[str, Target]
    groups: Mapping[str, Group]


def plan_of(found: Collected, names: Sequence[str], sets: Sequence[str]) -> BakePlan:
    """Return what is to be built for names of targets and groups, which may be patterns.

    sets: the words of `--set`. Raises BakeError.
    """
    return _Planner(found, parse_overrides(sets, tuple(found.targets))).plan(names)


class _Planner:
    def __init__(self, found: Collected, overrides: Mapping[str, list[Override]]) -> None:
        self._found = found
        self._overrides = overrides
        self._done: dict[str, Target] = {}

    def plan(self, names: Sequence[str]) -> BakePlan:
        """Return what is to be built."""
        wanted = [match for name in names for match in self._matching(name.replace(".", "_"))]
        wanted = list(dict.fromkeys(wanted))
        targets: dict[str, Target] = {}
        groups: dict[str, Group] = {}
        for name in wanted:
            members, around = self._members(name, ())
            for member in members:
                targets[member] = self._whole(member)
            groups |= {group: self._found.groups[group] for group in around}
        for name in list(targets):
            self._link(name, targets, ())
        return BakePlan(targets, self._with_default(groups, wanted))

    def _with_default(self, groups: Mapping[str, Group], wanted: Sequence[str]) -> dict[str, Group]:
        """Return groups with one called default that stands for what was asked for."""
        known = groups.get("default")
        listed = list(known.targets) if known is not None else []
        listed += [name for name in wanted if name != "default" or known is None]
        description = known.description if known is not None else ""
        made = Group("default", sorted(dict.fromkeys(listed)), description)
        return {**groups, "default": made}

    def _matching(self, name: str) -> list[str]:
        if not any(letter in name for letter in "*?[]"):
            return [name]
        known = (*self._found.groups, *self._found.targets)
        found = [each for each in known if fnmatchcase(each, name)]
        if not found:
            raise BakeError(
                f'could not find any target matching "{name}"', hint=f"there is {', '.join(known)}"
            )
        return found

    # -- groups

    def _members(self, name: str, way: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Return the targets that a name stands for, and the groups on the way to them."""
        group = self._found.groups.get(name)
        if group is None or (name in way and name in self._found.targets):
            return [name], []
        if name in way:
            circle = " → ".join((*way[way.index(name) :], name))
            raise BakeError(f"groups contain each other: {circle}")
        targets: dict[str, None] = {}
        groups = {name: None}
        for member in group.targets:
            if member not in self._found.groups and member not in self._found.targets:
                known = (*self._found.targets, *self._found.groups)
                raise unknown_target(member, known, f"group {name}: ")
            inner, around = self._members(member, (*way, name))
            targets |= dict.fromkeys(inner)
            groups |= dict.fromkeys(around)
        return list(targets), list(groups)

    # -- targets

    def _whole(self, name: str) -> Target:
        """Return a target with all that it inherits and what it has by default."""
        target = self._inherited(name, ()).copy()
        target.values.pop("inherits", None)
        target.values.setdefault("context", ".")
        if not target.text("dockerfile"):
            target.values["dockerfile"] = "Dockerfile"
        return target

    def _inherited(self, name: str, way: tuple[str, ...]) -> Target:
        if name in self._done:
            return self._done[name]
        if name in way:
            circle = " → ".join((*way[way.index(name) :], name))
            raise BakeError(f"targets inherit from each other: {circle}")
        own = self._found.targets.get(name)
        if own is None:
            known = (*self._found.targets, *self._found.groups)
            where = f"target {way[-1]} inherits: " if way else ""
            raise unknown_target(name, known, where)
        target = Target(name)
        for parent in own.texts("inherits"):
            above = self._inherited(parent, (*way, name)).copy()
            above.values.pop("inherits", None)
            target.merge(above)
        target.merge(own)
        for override in self._overrides.get(name, ()):
            override.apply(target)
        target.normalize()
        self._done[name] = target
        return target

    # -- links

    def _link(self, name: str, targets: dict[str, Target], way: tuple[str, ...]) -> None:
        """Add the targets that one stands on. Raises BakeError for a circle."""
        target = targets[name]
        for where in target.by_name("contexts").values():
            if not where.startswith(_LINK):
                continue
            below = where.removeprefix(_LINK)
            if below == name:
                raise BakeError(f"target {name} cannot link to itself")
            if below in way:
                circle = " → ".join((*way[way.index(below) :], name, below))
                raise BakeError(f"targets stand on each other: {circle}")
            if below not in self._found.targets:
                known = (*self._found.targets,)
                raise unknown_target(below, known, f"target {name}: contexts: ")
            if below not in targets:
                linked = self._whole(below)
                linked.values["output"] = [{"type": "cacheonly"}]
                linked.is_linked = True
                targets[below] = linked
            self._link(below, targets, (*way, name))
            entitled = [*target.texts("entitlements"), *targets[below].texts("entitlements")]
            if entitled:
                target.values["entitlements"] = list(dict.fromkeys(entitled))
            _check_platforms(target, targets[below])


def _check_platforms(target: Target, below: Target) -> None:
    wanted, there = target.texts("platforms"), below.texts("platforms")
    if len(wanted) > 1 and len(there) > 1 and not set(wanted) <= set(there):
        raise BakeError(
            f"target {below.name} can't be used by {target.name}: "
            f"it is for {', '.join(there)}, not for all of {', '.join(wanted)}"
        )
