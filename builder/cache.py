"""The layer cache: from a key to a layer that was made under it.

Source of the rules: docs/architecture.md, "The cache".
"""

from collections.abc import Callable, Mapping, Sequence

from builder.cachekey import KEY_SCHEMA
from builder.ops.registry import Ingredients
from builder.vertex import canonical_digest
from store import manner
from store.buildrecords import BuildRecord
from store.digest import DiffID, Digest
from store.root import Store
from values.classes import dataclass

# What stands beside the key, for explanations.
NOTED = frozenset({"files", "sources", "remote", "ref", "arg_names", "base"})


@dataclass(frozen=True, slots=True)
class Key:
    """A cache key: its digest and everything that it is made of."""

    digest: Digest
    ingredients: Mapping[str, object]


def make_key(kind: str, parent: Sequence[DiffID], platform: str, ingredients: Ingredients) -> Key:
    """Return the key of a vertex of a kind on exactly the root file system `parent`.

    A layer is only ever reused on what it was built on: the parent counts as its whole chain,
    times in it included.
    """
    keyed = {
        "schema": KEY_SCHEMA,
        "kind": kind,
        "parent": list(parent),
        "platform": platform,
        "fidelity": "full" if manner.current().all_owners else "single-id",
        **ingredients.keyed,
    }
    assert ingredients.noted.keys() <= NOTED
    return Key(canonical_digest(keyed), {**keyed, **ingredients.noted})


def is_sound(record: BuildRecord) -> bool:
    """Tell whether a record's key is that of its ingredients: neither was damaged.

    One of another version of the key's schema cannot be told from here.
    """
    ingredients = record.ingredients
    if ingredients.get("schema") != KEY_SCHEMA:
        return "schema" in ingredients
    keyed = {name: value for name, value in ingredients.items() if name not in NOTED}
    return canonical_digest(keyed) == record.key


def look_up(
    store: Store,
    key: Key,
    *,
    since_ns: int = 0,
    accepts: Callable[[BuildRecord], bool] | None = None,
    touching: bool = True,
) -> BuildRecord | None:
    """Return the newest record of `key` whose layers are there; None is a miss.

    since_ns: only records of steps begun after this time (ns since the epoch) count. accepts:
    tells whether one may be used; None: any may. touching: it counts as a use.
    """
    for record in store.records.lookup(key.digest):
        is_here = all(map(store.layers.has, record.diff_ids))
        is_wanted = record.started_ns >= since_ns and (accepts is None or accepts(record))
        if is_here and is_wanted:
            if touching:
                store.records.touch(key.digest)
            return record
    return None
