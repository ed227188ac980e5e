"""What keeps a tar inside the directory that it is unpacked into.

The guards are values that the unpacker is given, so that a test can give it one that guards nothing
and see what that one holds back.
"""

from collections.abc import Callable

from store.entries import CREATE, refused
from store.linux import open_beneath
from store.tarreader import Member
from store.tree import shown
from values.classes import dataclass

_LONGEST_NAME = 255

Name = tuple[bytes, bytes]  # parent, last part; both clean, ("", "") for the root itself


def strict_name(member: Member, path: bytes) -> Name:
    """Return a name's parts, as layers have them. Raises BadArchive for `..` and absolute names."""
    if path.startswith(b"/") and path.strip(b"/"):
        raise refused(member, f"absolute name {shown(path)}")
    if b".." in path.split(b"/"):
        raise refused(member, f"{shown(path)} leads out with `..`")
    return _named(member, path, [part for part in path.split(b"/") if part not in (b"", b".")])


def rooted_name(member: Member, path: bytes) -> Name:
    """Return a name's parts with the tree as the root: `..` stops there, a leading `/` is it.

    So docker takes archives, having changed root into the destination. Raises BadArchive.
    """
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return _named(member, path, parts)


def _named(member: Member, path: bytes, parts: list[bytes]) -> Name:
    if not path:
        raise refused(member, "an empty name")
    if b"\0" in path:
        raise refused(member, "a name with a zero byte")
    if any(len(part) > _LONGEST_NAME for part in parts):
        raise refused(member, "a name longer than 255 bytes")
    return (b"/".join(parts[:-1]), parts[-1]) if parts else (b"", b"")


@dataclass(frozen=True, slots=True)
class Confinement:
    """The guards of one unpacking.

    name: the parts of what an entry, or a hard link's target, is called. open_below: opens a
    directory below another without following a symlink. create: open(2)'s flags for a new file.
    """

    name: Callable[[Member, bytes], Name] = strict_name
    open_below: Callable[[int, bytes, int], int] = open_beneath
    create: int = CREATE


STRICT = Confinement()
