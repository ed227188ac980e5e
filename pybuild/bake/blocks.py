"""Blocks to targets and groups: matrices make several of one. Source: buildx bake/bake.go."""

from __future__ import annotations

from collections.abc import Iterator

from pybuild.bake.definitions import Definitions, check_keys
from pybuild.bake.evaluate import Evaluator
from pybuild.bake.syntax import Block
from pybuild.bake.target import Group, Target, check_name
from pybuild.bake.values import WrongValue, items, kind, text


class Collected:
    """The targets and groups of all files, by their names, as they come."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}
        self.groups: dict[str, Group] = {}

    def add_target(self, target: Target) -> None:
        """Add a target, or what more is said of one that is there."""
        known = self.targets.setdefault(target.name, Target(target.name))
        known.merge(target)

    def add_group(self, group: Group) -> None:
        """Add a group; a later one of a name takes the place of the earlier one."""
        self.groups[group.name] = group

    def add_blocks(self, definitions: Definitions) -> None:
        """Add what blocks define, evaluated. Raises BakeError."""
        definitions.check()
        made_of: dict[str, dict[str, None]] = {}
        for block in definitions.blocks:
            label = block.labels[0]
            if block.type == "group":
                self.add_group(_group(block, definitions.evaluator))
                continue
            names = []
            for target in _targets(block, definitions.evaluator):
                if target.name in names:
                    raise block.place.error(
                        f'target {label}: two of its matrix are called "{target.name}"',
                        "the name has to say every key of the matrix",
                    )
                names.append(target.name)
                self.add_target(target)
            made_of.setdefault(label, {}).update(dict.fromkeys(names))
        for label, names_of in made_of.items():
            if list(names_of) != [label]:
                self.add_group(Group(label, list(names_of)))


def _group(block: Block, evaluator: Evaluator) -> Group:
    check_name(block.labels[0], block.place)
    check_keys(block, ("targets", "description"))
    attributes = block.body.attributes
    if "targets" not in attributes:
        raise block.place.error(f"group {block.labels[0]} has no targets")
    targets, note = attributes["targets"], attributes.get("description")
    try:
        names = [text(name) for name in items(evaluator.value(targets.value))]
    except WrongValue as error:
        raise targets.place.error(f"group {block.labels[0]}: targets: {error}") from error
    return Group(block.labels[0], names, evaluator.text(note.value) if note else "")


def _targets(block: Block, evaluator: Evaluator) -> Iterator[Target]:
    """Yield the targets of a block: one, or one for every combination of its matrix."""
    label, attributes = block.labels[0], block.body.attributes
    check_name(label, block.place)
    for inner in block.body.blocks:
        raise inner.place.error(
            f'target {label}: "{inner.type}" is no block', f"write {inner.type} = …"
        )
    name = attributes.get("name")
    if name is not None and "matrix" not in attributes:
        raise name.place.error(f"target {label}: name requires matrix")
    for here in _combinations(block, evaluator):
        target = Target(label if name is None else here.text(name.value))
        check_name(target.name, block.place if name is None else name.place)
        for key, attribute in attributes.items():
            if key not in ("name", "matrix"):
                target.set(key, here.value(attribute.value), attribute.place)
        yield target


def _combinations(block: Block, evaluator: Evaluator) -> Iterator[Evaluator]:
    """Yield where a block is evaluated: once, or with the values of its matrix."""
    attribute = block.body.attributes.get("matrix")
    if attribute is None:
        yield evaluator
        return
    matrix = evaluator.value(attribute.value)
    if not isinstance(matrix, dict):
        raise attribute.place.error(f"matrix must be an object, and this is {kind(matrix)}")
    found: list[dict[str, object]] = [{}]
    for key in sorted(matrix):
        values = matrix[key]
        if not isinstance(values, list):
            raise attribute.place.error(f"matrix: {key} must be a list, and is {kind(values)}")
        found = [{**one, key: value} for value in values for one in found]
    for local in found:
        yield evaluator.inside(**local)
