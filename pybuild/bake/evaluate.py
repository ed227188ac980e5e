"""Expressions to values: None, True, numbers, text, lists and dicts.

Source: the HCL native syntax specification, "Expressions".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import singledispatchmethod
from typing import Protocol, TypeVar

from pybuild.bake import values
from pybuild.bake.syntax import (
    ELEMENT,
    Attr,
    Binary,
    Call,
    Conditional,
    Expr,
    For,
    ForPart,
    IfPart,
    Index,
    Literal,
    Name,
    Object,
    Part,
    Place,
    Splat,
    Template,
    Tuple,
    Unary,
)
from pybuild.bake.values import WrongValue
from pybuild.errors import BakeError

T = TypeVar("T")
_LAZY = ("try", "can", "convert")  # they look at expressions, not at values
_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


class Scope(Protocol):
    """What names mean."""

    def variable(self, name: str, place: Place) -> object:
        """Return the value of a variable. Raises BakeError."""

    def function(self, name: str, place: Place) -> Callable[..., object]:
        """Return a function; it raises WrongValue. Raises BakeError."""


class Evaluator:
    """Evaluates expressions in a scope. local: what names mean here, before the scope is asked."""

    def __init__(self, scope: Scope, local: Mapping[str, object] | None = None) -> None:
        self.scope = scope
        self.local = local or {}

    def inside(self, **local: object) -> Evaluator:
        """Return an evaluator where some more names mean something."""
        return Evaluator(self.scope, {**self.local, **local})

    @singledispatchmethod
    def value(self, expr: Expr) -> object:
        """Return the value of an expression. Raises BakeError with its place."""
        raise TypeError(type(expr))

    @value.register
    def _literal(self, expr: Literal) -> object:
        return expr.value

    @value.register
    def _name(self, expr: Name) -> object:
        if expr.name in self.local:
            return self.local[expr.name]
        return self.scope.variable(expr.name, expr.place)

    @value.register
    def _attr(self, expr: Attr) -> object:
        return _found(self.value(expr.of), expr.name, expr.place)

    @value.register
    def _index(self, expr: Index) -> object:
        return _found(self.value(expr.of), self.value(expr.key), expr.place)

    @value.register
    def _splat(self, expr: Splat) -> object:
        of = self.value(expr.of)
        items = of if isinstance(of, list) else [] if of is None else [of]
        return [self.inside(**{ELEMENT: item}).value(expr.each) for item in items]

    @value.register
    def _tuple(self, expr: Tuple) -> object:
        return [self.value(item) for item in expr.items]

    @value.register
    def _object(self, expr: Object) -> object:
        return {self.text(key): self.value(item) for key, item in expr.pairs}

    @value.register
    def _conditional(self, expr: Conditional) -> object:
        return self.value(expr.yes if self.truth(expr.condition) else expr.no)

    @value.register
    def _unary(self, expr: Unary) -> object:
        if expr.operator == "!":
            return not self.truth(expr.operand)
        return values.whole(-self.number(expr.operand))

    @value.register
    def _binary(self, expr: Binary) -> object:
        sign = expr.operator
        if sign in ("==", "!="):
            same = values.equal(self.value(expr.left), self.value(expr.right))
            return same == (sign == "==")
        if sign in ("&&", "||"):
            # HCL evaluates both sides: what is wrong on the right is an error either way.
            left, right = self.truth(expr.left), self.truth(expr.right)
            return left and right if sign == "&&" else left or right
        one, other = self.number(expr.left), self.number(expr.right)
        if sign in _COMPARISONS:
            return _COMPARISONS[sign](one, other)
        if sign in ("/", "%") and not other:
            raise expr.place.error("division by zero")
        try:
            return values.whole(_ARITHMETIC[sign](one, other))
        except OverflowError as error:
            raise expr.place.error("the number is too large") from error

    @value.register
    def _for(self, expr: For) -> object:
        results: list[tuple[str, object]] = []
        for key, item in _elements(self.value(expr.of), expr.of.place):
            here = self.inside(**{expr.item: item, **({expr.key: key} if expr.key else {})})
            if expr.condition is None or here.truth(expr.condition):
                name = here.text(expr.result_key) if expr.result_key is not None else ""
                results.append((name, here.value(expr.result)))
        if expr.kind == "list":
            return [item for _, item in results]
        if expr.kind == "object":
            return dict(results)
        grouped: dict[str, list[object]] = {}
        for name, item in results:
            grouped.setdefault(name, []).append(item)
        return grouped

    @value.register
    def _template(self, expr: Template) -> object:
        if len(expr.parts) == 1 and not isinstance(expr.parts[0], str | IfPart | ForPart):
            return self.value(expr.parts[0])
        return "".join(self._texts(expr.parts, expr.place))

    def _texts(self, parts: tuple[Part, ...], place: Place) -> Iterator[str]:
        for part in parts:
            if isinstance(part, str):
                yield part
            elif isinstance(part, IfPart):
                yield from self._texts(part.yes if self.truth(part.condition) else part.no, place)
            elif isinstance(part, ForPart):
                for key, item in _elements(self.value(part.of), place):
                    here = self.inside(**{part.item: item, **({part.key: key} if part.key else {})})
                    yield from here._texts(part.body, place)
            else:
                yield self.text(part)

    @value.register
    def _call(self, expr: Call) -> object:
        if expr.name in _LAZY:
            return self._lazy(expr)
        function = self.scope.function(expr.name, expr.place)
        given = [self.value(argument) for argument in expr.arguments]
        if expr.spread:
            last = given.pop()
            if not isinstance(last, list):
                raise expr.place.error(f"{expr.name}: what stands before ... is no list")
            given += last
        try:
            return function(*given)
        except WrongValue as error:
            raise expr.place.error(f"{expr.name}: {error}") from error
        except OverflowError as error:
            raise expr.place.error(f"{expr.name}: the number is too large") from error
        except (ArithmeticError, ValueError) as error:
            raise expr.place.error(f"{expr.name}: {error}") from error
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # from inside of it
            raise expr.place.error(f"{expr.name}: {_arguments(error)}") from error

    def _lazy(self, expr: Call) -> object:
        if expr.name == "convert":
            if len(expr.arguments) != 2:
                raise expr.place.error("convert: it takes a value and a type")
            value = self.value(expr.arguments[0])
            try:
                return values.converted(value, expr.arguments[1])
            except WrongValue as error:
                raise expr.place.error(f"convert: {error}") from error
        failure: BakeError | None = None
        for argument in expr.arguments:
            try:
                found = self.value(argument)
            except BakeError as error:
                failure = error
            else:
                return found if expr.name == "try" else True
        if expr.name == "can":
            return False
        raise failure or expr.place.error("try: it takes at least one expression")

    # -- values of a kind

    def text(self, expr: Expr) -> str:
        """Return the value of an expression as text. Raises BakeError."""
        return self._as(values.text, expr)

    def number(self, expr: Expr) -> float:
        """Return the value of an expression as a number. Raises BakeError."""
        return self._as(values.number, expr)

    def truth(self, expr: Expr) -> bool:
        """Return the value of an expression as true or false. Raises BakeError."""
        return self._as(values.truth, expr)

    def _as(self, convert: Callable[[object], T], expr: Expr) -> T:
        try:
            return convert(self.value(expr))
        except WrongValue as error:
            raise expr.place.error(str(error)) from error


def _found(of: object, key: object, place: Place) -> object:
    """Return an element of a list or an object. Raises BakeError."""
    if isinstance(of, dict):
        name = values.text(key)
        if name in of:
            return of[name]
        known = ", ".join(map(str, of)) or "nothing"
        raise place.error(f'there is no "{name}" here', f"there is {known}")
    if isinstance(of, list):
        try:
            number = values.number(key)
        except WrongValue as error:
            raise place.error(f"the index of a list: {error}") from error
        if number == int(number) and 0 <= number < len(of):
            return of[int(number)]
        raise place.error(f"the list has {len(of)} elements, and none with index {key}")
    raise place.error(f"{values.kind(of)} has nothing inside")


def _elements(of: object, place: Place) -> Iterator[tuple[object, object]]:
    """Yield keys and values of a list or an object. Raises BakeError."""
    if isinstance(of, dict):
        yield from sorted(of.items())
    elif isinstance(of, list):
        yield from enumerate(of)
    else:
        raise place.error(f"{values.kind(of)} has no elements")


def _arguments(error: TypeError) -> str:
    text = str(error).partition("() ")[2] or str(error)
    return text.replace("positional ", "")
