"""What the names in bake files mean: variables, functions, attributes of other blocks.

Everything is evaluated when it is first asked for. Source: buildx bake/hclparser/hclparser.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from pybuild.bake import values
from pybuild.bake.evaluate import Evaluator
from pybuild.bake.functions.table import FUNCTIONS, LATER, LAZY
from pybuild.bake.syntax import Attribute, Block, Body, Expr, Literal, Name, Place, Tuple
from pybuild.bake.values import WrongValue
from values.classes import dataclass

_VARIABLE_KEYS = ("default", "type", "description")
_FUNCTION_KEYS = ("params", "variadic_params", "variadic_param", "result")
BUILT_IN = Place("bake", "built-in")


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable, for lists: value is None where it has none."""

    name: str
    value: str | None
    type: str = ""
    description: str = ""


class Definitions:
    """The scope of all files together. Later files win.

    outside: what the environment and the command line say of a name, None for nothing. built_in:
    variables that are there anyway.
    """

    def __init__(
        self,
        bodies: Sequence[Body],
        outside: Callable[[str], str | None],
        built_in: Mapping[str, str],
    ) -> None:
        self._outside = outside
        self._values: dict[str, object] = dict(built_in)
        self._attributes: dict[str, Attribute] = {}
        self._variables: dict[str, Block] = {}
        self._functions: dict[str, Block] = {}
        self._ready: dict[str, Callable[..., object]] = {}
        self._open: list[str] = []
        self.blocks: list[Block] = []
        for body in bodies:
            self._attributes |= body.attributes
            for block in body.blocks:
                self._take(block)
        self.evaluator = Evaluator(self)

    def _take(self, block: Block) -> None:
        if block.type not in ("target", "group", "variable", "function"):
            known = ("target", "group", "variable", "function")
            hint = close(block.type, known) or f"there is {', '.join(known)}"
            raise block.place.error(f'unknown block "{block.type}"', hint)
        if len(block.labels) != 1:
            raise block.place.error(f"a {block.type} has one name", f'{block.type} "NAME" {{ … }}')
        if block.type == "variable":
            check_keys(block, _VARIABLE_KEYS)
            self._variables[block.labels[0]] = block
        elif block.type == "function":
            check_keys(block, _FUNCTION_KEYS)
            self._functions[block.labels[0]] = block
        else:
            self.blocks.append(block)

    def check(self) -> None:
        """Evaluate everything that is not part of a target: what is wrong there is an error."""
        for name, attribute in self._attributes.items():
            self.variable(name, attribute.place)
        for name, block in self._variables.items():
            self.variable(name, block.place)
        for name, block in self._functions.items():
            self.function(name, block.place)

    def variables(self) -> list[Variable]:
        """Return all variables with their values, by name."""
        found = []
        for name in sorted(self._variables):
            block = self._variables[name]
            value = self.variable(name, block.place)
            shown = None if value is None else value if isinstance(value, str) else _shown(value)
            attributes = block.body.attributes
            kind = attributes.get("type")
            note = attributes.get("description")
            found.append(
                Variable(
                    name,
                    shown,
                    values.type_text(kind.value) if kind is not None else "",
                    self.evaluator.text(note.value) if note is not None else "",
                )
            )
        return found

    # -- Scope

    def variable(self, name: str, place: Place) -> object:
        """Return the value of a variable, an attribute, or all targets. Raises BakeError."""
        if name not in self._values:
            if name in self._open:
                circle = " → ".join((*self._open[self._open.index(name) :], name))
                raise place.error(f"variable cycle not allowed: {circle}")
            self._open.append(name)
            try:
                self._values[name] = self._evaluated(name, place)
            finally:
                self._open.pop()
        return self._values[name]

    def function(self, name: str, place: Place) -> Callable[..., object]:
        """Return a function of the files or of the standard library. Raises BakeError."""
        if name in self._functions:
            if name not in self._ready:
                self._ready[name] = self._defined(name, self._functions[name])
            return self._ready[name]
        if name in FUNCTIONS:
            return FUNCTIONS[name]
        if name in LATER:
            raise place.error(f"function {name} is not supported")
        known = (*self._functions, *FUNCTIONS, *LAZY)
        raise place.error(f'undefined function "{name}"', close(name, known))

    def _evaluated(self, name: str, place: Place) -> object:
        if name in ("target", "group"):
            return self._named_blocks(name)
        if name in self._attributes:
            return self.evaluator.value(self._attributes[name].value)
        if name in self._variables:
            return self._variable(name, self._variables[name])
        hint = close(name, (*self._variables, *self._attributes))
        raise place.error(f'undefined variable "{name}"', hint)

    def _named_blocks(self, kind: str) -> object:
        return _Blocks(self, [block for block in self.blocks if block.type == kind])

    def _variable(self, name: str, block: Block) -> object:
        attributes = block.body.attributes
        default, type_ = attributes.get("default"), attributes.get("type")
        value = self.evaluator.value(default.value) if default is not None else None
        given = self._outside(name)
        as_json = self._outside(f"{name}_JSON") if type_ is not None else None
        try:
            if type_ is not None and as_json is not None and given is None:
                value = values.from_json(as_json, type_.value)
            elif type_ is not None and given is not None:
                value = values.from_environment(given, type_.value)
            elif type_ is not None:
                value = values.converted(value, type_.value)
            elif given is not None:
                value = _like(value, given)
            elif default is None:
                value = ""
        except WrongValue as error:
            raise block.place.error(f"variable {name}: {error}") from error
        self._validate(name, value, block)
        return value

    def _validate(self, name: str, value: object, block: Block) -> None:
        for rule in block.body.blocks:
            if rule.type != "validation":
                raise rule.place.error(f'unknown block "{rule.type}" in variable {name}')
            check_keys(rule, ("condition", "error_message"))
            condition = rule.body.attributes.get("condition")
            message = rule.body.attributes.get("error_message")
            if condition is None:
                raise rule.place.error("a validation needs its condition")
            here = self.evaluator.inside(**{name: value})
            if not here.truth(condition.value):
                text = "its condition is false" if message is None else here.text(message.value)
                raise condition.place.error(f"variable {name}: {text}")

    def _defined(self, name: str, block: Block) -> Callable[..., object]:
        attributes = block.body.attributes
        result = attributes.get("result")
        if result is None or "params" not in attributes:
            raise block.place.error(f"function {name} needs params and result")
        names = _parameters(attributes["params"].value)
        more = attributes.get("variadic_params") or attributes.get("variadic_param")
        rest = _parameters(more.value)[0] if more is not None else ""

        def call(*given: object) -> object:
            if len(given) < len(names) or (len(given) > len(names) and not rest):
                raise WrongValue(f"it takes {len(names)} arguments, and there are {len(given)}")
            if self._open.count(f"{name}()") > 100:
                raise block.place.error(f"function cycle not allowed: {name}")
            local = dict(zip(names, given, strict=False))
            if rest:
                local[rest] = list(given[len(names) :])
            self._open.append(f"{name}()")
            try:
                return self.evaluator.inside(**local).value(result.value)
            finally:
                self._open.pop()

        return call


class _Blocks(dict[str, object]):
    """`target.NAME.KEY`: attributes of blocks, each evaluated when it is asked for."""

    def __init__(self, definitions: Definitions, blocks: Sequence[Block]) -> None:
        named: dict[str, dict[str, Attribute]] = {}
        for block in blocks:
            named.setdefault(block.labels[0], {}).update(block.body.attributes)
        super().__init__({n: _Attributes(definitions, n, found) for n, found in named.items()})


class _Attributes(dict[str, object]):
    def __init__(
        self, definitions: Definitions, name: str, attributes: Mapping[str, Attribute]
    ) -> None:
        super().__init__(attributes)
        self._definitions, self._name = definitions, name
        self._open: set[str] = set()

    def __getitem__(self, key: str) -> object:
        attribute = super().__getitem__(key)
        assert isinstance(attribute, Attribute), "nothing else is put in"
        if key in self._open:
            raise attribute.place.error(f"{self._name}.{key} is made of itself")
        self._open.add(key)
        try:
            return self._definitions.evaluator.value(attribute.value)
        finally:
            self._open.remove(key)


def check_keys(block: Block, known: Sequence[str]) -> None:
    """Refuse attributes that a block does not know. Raises BakeError."""
    for name, attribute in block.body.attributes.items():
        if name not in known:
            what = f"{block.type} {block.labels[0]}" if block.labels else block.type
            hint = close(name, known) or f"there is {', '.join(known)}"
            raise attribute.place.error(f'{what}: unknown key "{name}"', hint)


def close(word: str, known: Sequence[str]) -> str | None:
    """Return a hint: what was probably meant."""
    found = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {found[0]}?" if found else None


def _like(default: object, given: str) -> object:
    """Return what the environment says as a value of the default's kind. Raises WrongValue."""
    if isinstance(default, bool):
        return values.truth(given.lower() if given.lower() in ("true", "false") else given)
    if isinstance(default, int | float):
        return values.number(given)
    if default is None or isinstance(default, str):
        return given
    raise WrongValue(
        f"its default is {values.kind(default)}: the environment can set it where it has a type"
    )


def _parameters(expr: Expr) -> list[str]:
    items = expr.items if isinstance(expr, Tuple) else (expr,)
    found = []
    for item in items:
        if isinstance(item, Name):
            found.append(item.name)
        elif isinstance(item, Literal) and isinstance(item.value, str):
            found.append(item.value)
        else:
            raise item.place.error("each parameter is a name")
    return found


def _shown(value: object) -> str:
    from pybuild.bake.functions.text import encoded

    return encoded(value) if isinstance(value, list | dict) else values.text(value)
