"""docker-bake.hcl as blocks: the tree of the package hcl2 turned into values of ours.

The only module that imports it. Source: the HCL native syntax specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pybuild.bake.syntax import (
    ELEMENT,
    Attr,
    Attribute,
    Binary,
    Block,
    Body,
    Call,
    Conditional,
    Expr,
    For,
    ForKind,
    Index,
    Literal,
    Name,
    Object,
    Place,
    Splat,
    Tuple,
    Unary,
)
from pybuild.bake.templates import parse_template, spans
from pybuild.errors import BakeError

# The package gives trees of a parser that is none of ours: what is asked of a node is its `data`,
# `children` and `meta`, or of a token its `type` and its text.
Node = object

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_HEREDOC = re.compile(r"<<(-?)([^\r\n]+)\r?\n(.*?)[ \t]*\2\r?\n?", re.DOTALL)
_NOISE = {"new_line_or_comment"}
_WORDS = {"true": True, "false": False, "null": None}


def parse_hcl(data: bytes, name: str) -> Body:
    """Return what a bake file in HCL says. Raises BakeError."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BakeError(f"{name}: it is no text in UTF-8") from error
    tree = _tree(text, name)
    return _Reader(name, text + "\n").body(_nodes(tree)[0])


def parse_expression(text: str, place: Place) -> Expr:
    """Return the expression that stands in a template at a place. Raises BakeError."""
    line = int(place.where) if place.where.isdecimal() else 0
    whole = "x = (" + text.strip() + ")"
    tree = _tree(whole, place.file, place)
    reader = _Reader(place.file, whole + "\n", None if line else place, max(0, line - 1))
    attribute = next(_trees(_nodes(tree)[0], "attribute"))
    return reader.expression(_nodes(attribute)[-1])


def _tree(text: str, name: str, place: Place | None = None) -> Node:
    try:
        import hcl2
    except ImportError as error:
        raise BakeError(
            f"{name}: the package python-hcl2 is not installed",
            hint="pip install 'pybuild[bake]'; docker-bake.json needs nothing more",
        ) from error
    try:
        return hcl2.parses_to_tree(text)
    except Exception as error:
        # Its parser's errors have no class of the package's own, but all say where they are.
        line, column = getattr(error, "line", None), getattr(error, "column", None)
        if not isinstance(line, int) or not isinstance(column, int):
            raise
        found = getattr(error, "token", None) or getattr(error, "char", "")
        shown = str(found).strip().split("\n")[0]
        raise (place or Place(name, str(max(1, line)))).error(
            f"syntax error at {shown!r}" if shown else "syntax error: a line ends too early",
            hint=_around(text, line, column),
        ) from error


def _around(text: str, line: int, column: int) -> str | None:
    """Return a line with the place of an error marked, None where there is no such line."""
    lines = text.split("\n")
    if not 0 < line <= len(lines) or not lines[line - 1].strip():
        return None
    shown = lines[line - 1]
    return f"here: {shown[: column - 1].lstrip()} >>> {shown[column - 1 :]}"


def _nodes(tree: Node) -> list[Node]:
    """Return a tree's children without blanks and comments."""
    return [child for child in getattr(tree, "children", ()) if _kind(child) not in _NOISE]


def _kind(node: Node) -> str:
    """Return the rule of a tree, or the type of a token."""
    data = getattr(node, "data", None)
    return str(data) if data is not None else str(getattr(node, "type", ""))


def _trees(node: Node, kind: str) -> Iterator[Node]:
    for child in getattr(node, "children", ()):
        if _kind(child) == kind:
            yield child


class _Reader:
    """Turns nodes of one file into values.

    fixed: the place of everything, where the file is none; else lines count from `above`.
    """

    def __init__(self, name: str, text: str, fixed: Place | None = None, above: int = 0) -> None:
        self._name, self._text, self._fixed, self._above = name, text, fixed, above

    def place(self, node: Node) -> Place:
        """Return where a node stands."""
        if self._fixed is not None:
            return self._fixed
        meta = getattr(node, "meta", node)
        return Place(self._name, str(int(getattr(meta, "line", 1)) + self._above))

    # -- blocks

    def body(self, node: Node) -> Body:
        """Return the attributes and blocks of a body. Raises BakeError for one that is twice."""
        attributes: dict[str, Attribute] = {}
        for tree in _trees(node, "attribute"):
            first, *_, value = _nodes(tree)
            name, place = self._word(first), self.place(tree)
            if name in attributes:
                raise place.error(f'"{name}" was given already, in {attributes[name].place}')
            attributes[name] = Attribute(name, self.expression(value), place)
        return Body(attributes, tuple(self._block(tree) for tree in _trees(node, "block")))

    def _block(self, tree: Node) -> Block:
        nodes = _nodes(tree)
        names = [node for node in nodes if _kind(node) in ("identifier", "string", "keyword")]
        words = [
            self._plain(node) if _kind(node) == "string" else self._word(node) for node in names
        ]
        body = next(_trees(tree, "body"))
        return Block(words[0], tuple(words[1:]), self.body(body), self.place(tree))

    def _word(self, node: Node) -> str:
        children = getattr(node, "children", None)
        return str(children[0]) if children else str(node)

    def _plain(self, node: Node) -> str:
        value = self._string(node)
        if not isinstance(value, Literal) or not isinstance(value.value, str):
            raise self.place(node).error("a label cannot have ${…} in it")
        return value.value

    # -- expressions

    def expression(self, node: Node) -> Expr:
        """Return an expression. Raises BakeError for a form that is not known."""
        kind = _kind(node)
        if kind == "expr_term":
            inner = [child for child in _nodes(node) if _kind(child) not in ("LPAR", "RPAR")]
            return self.expression(inner[0])
        read = getattr(self, f"_{kind}", None)
        if read is None:
            raise self.place(node).error(f"{kind.replace('_', ' ')} is not supported here")
        found: Expr = read(node)
        return found

    def _identifier(self, node: Node) -> Expr:
        return Name(self._word(node), self.place(node))

    def _literal_value(self, node: Node) -> Expr:
        return Literal(_WORDS[self._word(node)], self.place(node))

    def _int_lit(self, node: Node) -> Expr:
        return Literal(int(self._word(node)), self.place(node))

    def _float_lit(self, node: Node) -> Expr:
        value = float(self._word(node))
        return Literal(int(value) if value.is_integer() else value, self.place(node))

    def _string(self, node: Node) -> Expr:
        meta = getattr(node, "meta", None)
        start, end = getattr(meta, "start_pos", 0), getattr(meta, "end_pos", 0)
        raw = self._text[start + 1 : end - 1]
        place = self.place(node)
        return parse_template(_unescaped(raw, place), place, parse_expression)

    def _template_string(self, node: Node) -> Expr:
        return self._string(node)

    def _heredoc_template(self, node: Node) -> Expr:
        found = _HEREDOC.fullmatch(self._word(node))
        place = self.place(node)
        if found is None:
            raise place.error("the end of the here-document is not found")
        text = found[3].replace("\r\n", "\n")
        return parse_template(_flush(text) if found[1] else text, place, parse_expression)

    _heredoc_template_trim = _heredoc_template

    def _tuple(self, node: Node) -> Expr:
        items = [child for child in _nodes(node) if hasattr(child, "data")]
        return Tuple(tuple(map(self.expression, items)), self.place(node))

    def _object(self, node: Node) -> Expr:
        pairs = []
        for element in _trees(node, "object_elem"):
            key, *_, value = _nodes(element)
            pairs.append((self._key(key), self.expression(value)))
        return Object(tuple(pairs), self.place(node))

    def _key(self, node: Node) -> Expr:
        """Return a key: a bare word means itself, one in parentheses a variable."""
        inner = getattr(node, "children", [])[0]
        if _kind(inner) in ("keyword", "KEYWORD"):
            return Literal(self._word(inner), self.place(inner))
        if _kind(inner) == "expr_term":
            nodes = _nodes(inner)
            if len(nodes) == 1 and _kind(nodes[0]) in ("identifier", "literal_value"):
                return Literal(self._word(nodes[0]), self.place(inner))
        return self.expression(inner)

    def _function_call(self, node: Node) -> Expr:
        names = [self._word(child) for child in _trees(node, "identifier")]
        arguments, spread = [], False
        for tree in _trees(node, "arguments"):
            spread = any(_kind(child) == "ELLIPSIS" for child in _nodes(tree))
            arguments = [child for child in _nodes(tree) if hasattr(child, "data")]
        values = tuple(map(self.expression, arguments))
        return Call("::".join(names), values, spread, self.place(node))

    def _conditional(self, node: Node) -> Expr:
        yes_no = [child for child in _nodes(node) if hasattr(child, "data")]
        condition, yes, no = map(self.expression, yes_no)
        return Conditional(condition, yes, no, self.place(node))

    def _unary_op(self, node: Node) -> Expr:
        operator, operand = _nodes(node)
        return Unary(str(operator), self.expression(operand), self.place(node))

    def _binary_op(self, node: Node) -> Expr:
        left, term = _nodes(node)[:2]
        assert hasattr(term, "children"), "a rule, not a token"
        operator, right = _nodes(term)
        text = self._word(operator).split()[-1]  # the parser keeps a line end before it
        return Binary(text, self.expression(left), self.expression(right), self.place(node))

    # -- what is inside of a value

    def _index_expr_term(self, node: Node) -> Expr:
        of, index = _nodes(node)
        return self._inside(self.expression(of), index)

    _get_attr_expr_term = _index_expr_term

    def _attr_splat_expr_term(self, node: Node) -> Expr:
        of, splat = _nodes(node)
        each: Expr = Name(ELEMENT, self.place(node))
        for step in _nodes(splat):
            if hasattr(step, "data"):
                each = self._inside(each, step)
        return Splat(self.expression(of), each, self.place(node))

    _full_splat_expr_term = _attr_splat_expr_term

    def _inside(self, of: Expr, step: Node) -> Expr:
        """Return `of.name`, `of[key]` or `of.0`."""
        place, kind = self.place(step), _kind(step)
        parts = _nodes(step)
        if kind == "get_attr":
            return Attr(of, self._word(parts[-1]), place)
        if kind == "short_index":
            return Index(of, Literal(int(str(parts[-1])), place), place)
        key = next(part for part in parts if hasattr(part, "data"))
        return Index(of, self.expression(key), place)

    # -- for

    def _for_tuple_expr(self, node: Node) -> Expr:
        intro, *rest = [child for child in _nodes(node) if hasattr(child, "data")]
        results = [child for child in rest if _kind(child) != "for_cond"]
        return self._for(node, intro, None, results[0], "list")

    def _for_object_expr(self, node: Node) -> Expr:
        intro, *rest = [child for child in _nodes(node) if hasattr(child, "data")]
        results = [child for child in rest if _kind(child) != "for_cond"]
        grouped = any(_kind(child) == "ELLIPSIS" for child in _nodes(node))
        return self._for(node, intro, results[0], results[1], "group" if grouped else "object")

    def _for(self, node: Node, intro: Node, key: Node | None, result: Node, kind: ForKind) -> Expr:
        names = [self._word(tree) for tree in _trees(intro, "identifier")]
        of = [c for c in getattr(intro, "children", ()) if hasattr(c, "data")]
        source = [c for c in of if _kind(c) not in (*_NOISE, "identifier")][-1]
        condition = None
        for tree in _trees(node, "for_cond"):
            condition = self.expression([c for c in _nodes(tree) if hasattr(c, "data")][-1])
        return For(
            kind,
            names[0] if len(names) == 2 else "",
            names[-1],
            self.expression(source),
            self.expression(key) if key is not None else None,
            self.expression(result),
            condition,
            self.place(node),
        )


def _unescaped(raw: str, place: Place) -> str:
    """Return a quoted string's text with its escapes undone, but not those inside `${…}`."""
    out, at = [], 0
    for start, end in spans(raw, place):
        out.append(_undone(raw[at:start], place))
        out.append(raw[start:end])
        at = end
    return "".join((*out, _undone(raw[at:], place)))


def _undone(text: str, place: Place) -> str:
    def one(found: re.Match[str]) -> str:
        code = found[1] or found[2]
        if code:
            return chr(int(code, 16))
        if found[3] not in _ESCAPES:
            raise place.error(f"unknown escape \\{found[3]}", 'there is \\n \\r \\t \\" \\\\ \\u')
        return _ESCAPES[found[3]]

    return _ESCAPE.sub(one, text)


def _flush(text: str) -> str:
    """Return text without the blanks that all of its lines begin with."""
    lines = text.split("\n")
    widths = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    least = min(widths, default=0)
    return "\n".join(line[least:] if line.strip() else line.lstrip(" \t") for line in lines)
