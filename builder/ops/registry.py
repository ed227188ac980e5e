"""The two questions that every kind of layer-making vertex answers; its file registers both.

`describe` says what the vertex's cache key is made of, `perform` makes the layer.
"""

from collections.abc import Mapping, Sequence
from functools import singledispatch

from builder.site import Result, Site, Step
from builder.vertex import Vertex
from store.buildrecords import BuildRecord
from store.digest import DiffID, Digest
from values.classes import dataclass, field


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a cache key is made of.

    keyed: goes into the key's digest. noted: is stored beside it for explanations, and is
    implied by what is keyed, as the files behind a content digest.
    """

    keyed: Mapping[str, object]
    noted: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """The layer that a step made, and facts for the journal.

    instruction: names what ran whatever it read, "" where nothing is to be adopted for it.
    adopted: the record of an earlier run whose layer this is, since both made the same.
    """

    diff_id: DiffID
    size_bytes: int
    facts: Mapping[str, object] = field(default_factory=dict)
    instruction: Digest | None = None
    adopted: BuildRecord | None = None


@singledispatch
def describe(op: object, vertex: Vertex, inputs: Sequence[Result], site: Site) -> Ingredients:
    """Return what the key of `vertex` is made of, reading the files that it selects."""
    raise TypeError(f"no key is defined for {type(op).__name__}")


@singledispatch
def perform(op: object, vertex: Vertex, inputs: Sequence[Result], site: Site, step: Step) -> Made:
    """Make the layer of `vertex`. Raises BuildError."""
    raise TypeError(f"nothing is defined to be done for {type(op).__name__}")
