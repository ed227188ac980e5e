"""docker-bake.json: HCL's JSON form as blocks. Source: the HCL JSON syntax specification."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pybuild.bake.syntax import Attribute, Block, Body, Expr, Literal, Object, Place, Tuple
from pybuild.bake.templates import parse_template, simple_path
from pybuild.errors import BakeError

BLOCKS = ("target", "group", "variable", "function")


def parse_json(data: bytes, name: str) -> Body:
    """Return what a JSON bake file says. Raises BakeError."""
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        raise BakeError(f"{name}:{error.lineno}:{error.colno}: {error.msg.lower()}") from error
    except UnicodeDecodeError as error:
        raise BakeError(f"{name}: it is no text in UTF-8") from error
    if not isinstance(document, dict):
        raise BakeError(f"{name}: not an object", hint='as in {"target": {"app": {}}}')
    blocks: list[Block] = []
    attributes = {}
    for key, value in document.items():
        place = Place(name, key)
        if key in BLOCKS:
            blocks += _blocks(key, value, place)
        elif key != "//":
            attributes[key] = Attribute(key, expression(value, place), place)
    return Body(attributes, tuple(blocks))


def _blocks(kind: str, value: object, place: Place) -> Iterator[Block]:
    if not isinstance(value, dict):
        raise place.error(f"not an object of {kind}s by their names")
    for label, bodies in value.items():
        where = Place(place.file, f"{place.where}.{label}")
        for body in bodies if isinstance(bodies, list) else [bodies]:
            if not isinstance(body, dict):
                raise where.error("not an object")
            yield Block(kind, (label,), _body(body, where), where)


def _body(fields: dict[str, object], place: Place) -> Body:
    attributes, blocks = {}, []
    for key, value in fields.items():
        where = Place(place.file, f"{place.where}.{key}")
        if key == "validation":
            for each in value if isinstance(value, list) else [value]:
                if not isinstance(each, dict):
                    raise where.error("not an object")
                blocks.append(Block(key, (), _body(each, where), where))
        elif key != "//":
            attributes[key] = Attribute(key, expression(value, where), where)
    return Body(attributes, tuple(blocks))


def expression(value: object, place: Place) -> Expr:
    """Return a JSON value as an expression: strings are templates. Raises BakeError."""
    if isinstance(value, str):
        return parse_template(value, place, parse_expression)
    if isinstance(value, list):
        return Tuple(tuple(expression(item, place) for item in value), place)
    if isinstance(value, dict):
        pairs = ((expression(k, place), expression(v, place)) for k, v in value.items())
        return Object(tuple(pairs), place)
    return Literal(value, place)


def parse_expression(text: str, place: Place) -> Expr:
    """Return an expression of a template; all but names need the HCL parser. Raises BakeError."""
    found = simple_path(text, place)
    if found is not None:
        return found
    from pybuild.bake.hclfile import parse_expression as parse_hcl

    return parse_hcl(text, place)
