"""What a bake file says before anything is evaluated: blocks, attributes and expressions as values.

The same for HCL and for JSON. Source: the HCL native syntax specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal as OneOf

from pybuild.errors import BakeError
from values.classes import dataclass, field


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: a line of HCL, or the path of keys in JSON."""

    file: str
    where: str

    def __str__(self) -> str:
        return f"{self.file}:{self.where}"

    def error(self, message: str, hint: str | None = None) -> BakeError:
        """Return an error about what stands here."""
        return BakeError(f"{self}: {message}", hint=hint)


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that needs no evaluation."""

    value: object
    place: Place


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, by its name."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Attr:
    """`of.name`."""

    of: Expr
    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Index:
    """`of[key]`."""

    of: Expr
    key: Expr
    place: Place


@dataclass(frozen=True, slots=True)
class Splat:
    """`of[*].a[0]`: `each` for every element, which it calls `ELEMENT`."""

    of: Expr
    each: Expr
    place: Place


ForKind = OneOf["list", "object", "group"]
ELEMENT = "*"  # no name of a variable


@dataclass(frozen=True, slots=True)
class Call:
    """`name(arguments)`; with `spread` the last argument is a list of them."""

    name: str
    arguments: tuple[Expr, ...]
    spread: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Tuple:
    """`[a, b]`."""

    items: tuple[Expr, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Object:
    """`{ a = b }`."""

    pairs: tuple[tuple[Expr, Expr], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Conditional:
    """`condition ? yes : no`."""

    condition: Expr
    yes: Expr
    no: Expr
    place: Place


@dataclass(frozen=True, slots=True)
class Unary:
    """`-a` or `!a`."""

    operator: str
    operand: Expr
    place: Place


@dataclass(frozen=True, slots=True)
class Binary:
    """`a + b`."""

    operator: str
    left: Expr
    right: Expr
    place: Place


@dataclass(frozen=True, slots=True)
class For:
    """`[for key, item in of : result if condition]`, or with `{}` and a key for each result.

    kind: list, object, or group where `...` collects the results of a key.
    """

    kind: ForKind
    key: str
    item: str
    of: Expr
    result_key: Expr | None
    result: Expr
    condition: Expr | None
    place: Place


@dataclass(frozen=True, slots=True)
class Template:
    """Text with expressions in it; one expression alone gives its value as it is."""

    parts: tuple[Part, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class IfPart:
    """`%{ if condition }…%{ else }…%{ endif }`."""

    condition: Expr
    yes: tuple[Part, ...]
    no: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ForPart:
    """`%{ for key, item in of }…%{ endfor }`."""

    key: str
    item: str
    of: Expr
    body: tuple[Part, ...]


Expr = (
    Literal
    | Name
    | Attr
    | Index
    | Splat
    | Call
    | Tuple
    | Object
    | Conditional
    | Unary
    | Binary
    | For
    | Template
)
Part = str | Expr | IfPart | ForPart


@dataclass(frozen=True, slots=True)
class Attribute:
    """`name = value`."""

    name: str
    value: Expr
    place: Place


@dataclass(frozen=True, slots=True)
class Body:
    """What is between the braces of a block, or in a file."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """`type "label" { … }`."""

    type: str
    labels: tuple[str, ...]
    body: Body
    place: Place
