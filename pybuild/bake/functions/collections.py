"""Functions on lists and objects. Source: go-cty function/stdlib."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from pybuild.bake.functions.text import encoded
from pybuild.bake.values import WrongValue, equal, integer, items, kind, mapping, number, text


def _has(found: list[object], item: object) -> bool:
    return any(equal(item, other) for other in found)


def distinct(found: object) -> list[object]:
    """Return the elements of a list, each once."""
    kept: list[object] = []
    for item in items(found):
        if not _has(kept, item):
            kept.append(item)
    return kept


def _set(found: list[object]) -> list[object]:
    """Return distinct elements in the order of a set: that of their values."""
    kept = distinct(found)
    if all(isinstance(item, str) for item in kept):
        return sorted(kept, key=text)
    if all(isinstance(item, int | float) for item in kept):
        return sorted(kept, key=number)
    return sorted(kept, key=encoded)


def chunklist(found: object, size: object) -> list[object]:
    """Return a list cut into lists of at most this size."""
    step, whole = integer(size), items(found)
    if step < 0:
        raise WrongValue("the size cannot be negative")
    step = step or max(1, len(whole))
    return [whole[at : at + step] for at in range(0, len(whole), step)]


def coalesce(*found: object) -> object:
    """Return the first value that is not null."""
    for item in found:
        if item is not None:
            return item
    raise WrongValue("all arguments are null")


def coalescelist(*found: object) -> object:
    """Return the first list that has elements."""
    for item in found:
        if item:
            return items(item)
    raise WrongValue("all lists are empty")


def element(found: object, index: object) -> object:
    """Return an element; the index starts again at the end."""
    whole = items(found)
    if not whole:
        raise WrongValue("the list is empty")
    return whole[integer(index) % len(whole)]


def flatten(found: object) -> list[object]:
    """Return a list with the elements of its lists instead of those."""
    flat: list[object] = []
    for item in items(found):
        flat += flatten(item) if isinstance(item, list) else [item]
    return flat


def hasindex(found: object, key: object) -> bool:
    """Tell whether there is an element with this index or key."""
    if isinstance(found, dict):
        return key in found
    if isinstance(found, list) and isinstance(key, int):
        return 0 <= key < len(found)
    return False


def index(found: object, key: object) -> object:
    """Return the element with this index or key."""
    if not hasindex(found, key):
        raise WrongValue(f"there is no element {key}")
    return found[key] if isinstance(found, dict) else items(found)[integer(key)]


def indexof(found: object, item: object) -> int:
    """Return the index of an element."""
    for number_, other in enumerate(items(found)):
        if equal(item, other):
            return number_
    raise WrongValue("item not found")


def keys(found: object) -> list[object]:
    """Return the keys of an object, in order."""
    return [*sorted(mapping(found))]


def length(found: object) -> int:
    """Return how many elements there are, or letters of text."""
    if isinstance(found, list | dict | str):
        return len(found)
    raise WrongValue(f"{kind(found)} has no length")


def lookup(found: object, key: object, *default: object) -> object:
    """Return the value of a key, or a default."""
    known = mapping(found)
    if text(key) in known:
        return known[text(key)]
    if default:
        return default[0]
    raise WrongValue(f'there is no "{key}"')


def merge(*found: object) -> dict[str, object]:
    """Return the entries of all objects; later ones win."""
    merged: dict[str, object] = {}
    for item in found:
        merged |= mapping(item) if item is not None else {}
    return merged


def range_(*limits: object) -> list[object]:
    """Return numbers: up to a limit, or from one to another, by a step."""
    numbers = [number(limit) for limit in limits]
    if not 1 <= len(numbers) <= 3:
        raise WrongValue("it takes a limit, or start, limit and step")
    start, limit = (0.0, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])
    step = numbers[2] if len(numbers) == 3 else (1 if limit >= start else -1)
    if not step or (limit - start) * step < 0:
        raise WrongValue("the step does not lead from the start to the limit")
    count = int(-(-(limit - start) // step))
    if count > 1024:
        raise WrongValue("more than 1024 numbers")
    return [_plain(start + step * place) for place in range(max(0, count))]


def _plain(value: float) -> object:
    return int(value) if value == int(value) else value


def setintersection(first: object, *others: object) -> list[object]:
    """Return what is in all lists."""
    found = [item for item in items(first) if all(_has(items(other), item) for other in others)]
    return _set(found)


def setproduct(*lists: object) -> list[object]:
    """Return all combinations of elements."""
    return [list(row) for row in itertools.product(*map(items, lists))]


def setsubtract(one: object, other: object) -> list[object]:
    """Return what is in the first list only."""
    return _set([item for item in items(one) if not _has(items(other), item)])


def setsymmetricdifference(one: object, other: object) -> list[object]:
    """Return what is in one of two lists only."""
    return _set([*setsubtract(one, other), *setsubtract(other, one)])


def slice_(found: object, start: object, end: object) -> list[object]:
    """Return the elements from one index up to another."""
    whole, first, last = items(found), integer(start), integer(end)
    if not 0 <= first <= last <= len(whole):
        raise WrongValue(f"the list has {len(whole)} elements")
    return whole[first:last]


def values(found: object) -> list[object]:
    """Return the values of an object, in the order of its keys."""
    known = mapping(found)
    return [known[key] for key in sorted(known)]


def zipmap(names: object, found: object) -> dict[str, object]:
    """Return an object from a list of keys and one of values."""
    if len(items(names)) != len(items(found)):
        raise WrongValue("there are not as many keys as values")
    return dict(zip(map(text, items(names)), items(found), strict=True))


def concat(*lists: object) -> list[object]:
    """Return the elements of all lists."""
    return [item for found in lists for item in items(found)]


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "chunklist": chunklist,
    "coalesce": coalesce,
    "coalescelist": coalescelist,
    "compact": lambda found: [item for item in items(found) if item not in (None, "")],
    "concat": concat,
    "contains": lambda found, item: _has(items(found), item),
    "distinct": distinct,
    "element": element,
    "flatten": flatten,
    "hasindex": hasindex,
    "index": index,
    "indexof": indexof,
    "keys": keys,
    "length": length,
    "lookup": lookup,
    "merge": merge,
    "range": range_,
    "reverselist": lambda found: items(found)[::-1],
    "sethaselement": lambda found, item: _has(items(found), item),
    "setintersection": setintersection,
    "setproduct": setproduct,
    "setsubtract": setsubtract,
    "setsymmetricdifference": setsymmetricdifference,
    "setunion": lambda *lists: _set(concat(*lists)),
    "slice": slice_,
    "sort": lambda found: sorted(map(text, items(found))),
    "values": values,
    "zipmap": zipmap,
}
