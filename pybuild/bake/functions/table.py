"""All functions by their names. Source: buildx bake/hclparser/stdlib.go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pybuild.bake.functions import collections, numbers, text

FUNCTIONS: Mapping[str, Callable[..., object]] = {
    **collections.FUNCTIONS,
    **numbers.FUNCTIONS,
    **text.FUNCTIONS,
}
# What buildx has and this version has not.
LATER = ("bcrypt", "bytesslice", "rsadecrypt")
# What the evaluator does itself.
LAZY = ("can", "convert", "try")
