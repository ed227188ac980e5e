"""Files that are made just while their layer's tar is written, so that nobody reads them again.

Owns the words between who makes the files (the builder, for a COPY into a new directory) and who
writes the layer (`store.diff`).
"""

from collections.abc import Callable, Iterator

from store.tarwriter import Header
from values.classes import dataclass

# The header of a file that is there now, and its bytes: all of them, or a descriptor to read from
# that stays the maker's.
Filled = tuple[Header, bytes | int]


@dataclass(frozen=True, slots=True)
class Filling:
    """What comes into one empty directory.

    path: the directory's, from the top of the tree, without slashes at its ends; not the top.
    make: given the open directory, makes everything in it with its final attributes and yields it
    in the order of the tar: by the bytes of names, a directory before what it holds. Names in
    headers begin with `path`. What a tar cannot say must not be among it.
    """

    path: bytes
    make: Callable[[int], Iterator[Filled]]
