"""Values of expressions: what they are called, how one kind becomes another, types of variables.

Source: go-cty's convert package; HCL's typeexpr extension.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from pybuild.bake.syntax import Call, Expr, Literal, Name, Object, Tuple

_TRUE, _FALSE = ("true", "1"), ("false", "0")


class WrongValue(Exception):
    """A value is not of the kind that is needed."""


def kind(value: object) -> str:
    """Return what a value is called."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def whole(value: float) -> float:
    """Return a number, as an int where it is whole."""
    return int(value) if math.isfinite(value) and value == int(value) else value


def text(value: object) -> str:
    """Return a string, a number or a boolean as text. Raises WrongValue."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(whole(number(value)))
    raise WrongValue(f"a string is needed, and this is {kind(value)}")


def number(value: object) -> float:
    """Return a number, or text that is one. Raises WrongValue."""
    if isinstance(value, str):
        try:
            return whole(float(value)) if not value.lstrip("-").isdecimal() else int(value)
        except ValueError:
            raise WrongValue(f'a number is needed, and this is "{value}"') from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise WrongValue("the number is too large")
        return value
    raise WrongValue(f"a number is needed, and this is {kind(value)}")


def truth(value: object) -> bool:
    """Return a boolean, or text that is one. Raises WrongValue."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in (*_TRUE, *_FALSE):
        return value in _TRUE
    shown = f'"{value}"' if isinstance(value, str) else kind(value)
    raise WrongValue(f"true or false is needed, and this is {shown}")


def items(value: object) -> list[object]:
    """Return a list. Raises WrongValue."""
    if isinstance(value, list):
        return value
    raise WrongValue(f"a list is needed, and this is {kind(value)}")


def mapping(value: object) -> dict[str, object]:
    """Return an object. Raises WrongValue."""
    if isinstance(value, dict):
        return value
    raise WrongValue(f"an object is needed, and this is {kind(value)}")


def integer(value: object) -> int:
    """Return a whole number. Raises WrongValue."""
    found = number(value)
    if found != int(found):
        raise WrongValue(f"a whole number is needed, and this is {found}")
    return int(found)


def equal(one: object, other: object) -> bool:
    """Tell whether two values are equal; 1 and true are not."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    return one == other


def converted(value: object, type_: Expr) -> object:
    """Return a value as one of a type; null is of every type. Raises WrongValue."""
    return None if value is None else _converter(type_)(value)


def type_text(type_: Expr) -> str:
    """Return how a type is written. Raises WrongValue."""
    if isinstance(type_, Literal) and isinstance(type_.value, str):
        return type_.value
    if isinstance(type_, Name):
        return type_.name
    if isinstance(type_, Call):
        return f"{type_.name}({', '.join(map(type_text, type_.arguments))})"
    if isinstance(type_, Tuple):
        return f"[{', '.join(map(type_text, type_.items))}]"
    if isinstance(type_, Object):
        pairs = (f"{_key(key)}={type_text(of)}" for key, of in type_.pairs)
        return "{" + ", ".join(pairs) + "}"
    raise WrongValue("this is no type")


def from_environment(words: str, type_: Expr) -> object:
    """Return what text from outside means as a value of a type; lists are CSV.

    Raises WrongValue.
    """
    name = type_.name if isinstance(type_, Name | Call) else type_text(type_)
    if name in ("list", "set", "tuple") and not isinstance(type_, Literal):
        import csv

        found: list[object] = list(next(csv.reader([words]), []))
        return converted(found, type_)
    if name in ("map", "object"):
        raise WrongValue(f"a variable of type {name} takes JSON: set NAME_JSON instead")
    return converted(words, type_)


def from_json(words: str, type_: Expr) -> object:
    """Return what JSON from outside means as a value of a type. Raises WrongValue."""
    try:
        found = json.loads(words)
    except ValueError as error:
        raise WrongValue(f"it is no JSON: {error}") from error
    return converted(found, type_)


def _key(expr: Expr) -> str:
    if isinstance(expr, Literal) and isinstance(expr.value, str):
        return expr.value
    raise WrongValue("this is no type")


_PLAIN: dict[str, Callable[[object], object]] = {
    "string": text,
    "number": number,
    "bool": truth,
    "any": lambda value: value,
    "list": lambda value: items(value),
    "set": lambda value: _distinct(items(value)),
    "map": lambda value: mapping(value),
}


def _converter(type_: Expr) -> Callable[[object], object]:
    """Return what makes values of a type. Raises WrongValue for what is no type."""
    if isinstance(type_, Literal) and isinstance(type_.value, str):
        # JSON writes types as text.
        from pybuild.bake.jsonfile import parse_expression

        return _converter(parse_expression(type_.value, type_.place))
    if isinstance(type_, Name) and type_.name in _PLAIN:
        return _PLAIN[type_.name]
    if isinstance(type_, Call) and len(type_.arguments) == 1:
        made = _made_of(type_.name, type_.arguments[0])
        if made is not None:
            return made
    raise WrongValue(f"this is no type; there is {', '.join(_PLAIN)}, list(string) …")


def _made_of(name: str, of: Expr) -> Callable[[object], object] | None:
    """Return what makes values of a type that is made of others, None where there is no such."""
    if name == "optional":
        return lambda value: converted(value, of)
    if name == "list":
        return lambda value: [converted(item, of) for item in items(value)]
    if name == "set":
        return lambda value: _distinct([converted(item, of) for item in items(value)])
    if name == "map":
        return lambda value: {k: converted(v, of) for k, v in mapping(value).items()}
    if name == "tuple" and isinstance(of, Tuple):
        return lambda value: _tuple(items(value), of.items)
    if name == "object" and isinstance(of, Object):
        return lambda value: _object(mapping(value), of)
    return None


def _distinct(found: list[object]) -> list[object]:
    kept: list[object] = []
    for item in found:
        if not any(equal(item, other) for other in kept):
            kept.append(item)
    return kept


def _tuple(found: list[object], types: tuple[Expr, ...]) -> object:
    if len(found) != len(types):
        raise WrongValue(f"{len(types)} elements are needed, and there are {len(found)}")
    return [converted(item, type_) for item, type_ in zip(found, types, strict=True)]


def _object(found: dict[str, object], type_: Object) -> object:
    made: dict[str, object] = {}
    for key, of in type_.pairs:
        name = _key(key)
        if name not in found and not (isinstance(of, Call) and of.name == "optional"):
            raise WrongValue(f'"{name}" is missing')
        made[name] = converted(found.get(name), of)
    return made
