"""How a store keeps on disk what a layer says: whose the files are, and overlay's own marks.

A store is written in one manner and refuses processes of another: the same file would mean
something else to them.
"""

import functools

from store.errors import StoreError
from store.usernamespace import in_first_user_namespace
from values.classes import dataclass

_CHOWN, _DAC_OVERRIDE, _SYS_ADMIN = 0, 1, 21
_FILE = "manner"

# Of one range: inside, outside, how many. Source: user_namespaces(7).
IdMap = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Manner:
    """How owners and overlay's marks are written.

    marks: the class of overlay's extended attributes. all_owners: whether files get the owners
    that a layer says; else all belong to one user, and only the kept headers know better.
    uids, gids: what our ids are outside of the user namespace, () in the host's own.
    """

    marks: str = "trusted"
    all_owners: bool = True
    uids: IdMap = ()
    gids: IdMap = ()

    def describe(self) -> str:
        """Return it in words, for errors."""
        if self == ROOTS:
            return "by root"
        if not self.all_owners:
            return "with a single id"
        return f"with {sum(count for *_, count in self.uids)} ids"

    def can_use(self, made: "Manner") -> bool:
        """Tell whether a process of this manner reads right what one of `made` has written."""
        if (self.marks, self.all_owners) != (made.marks, made.all_owners):
            return False
        if not self.all_owners:
            return True
        return _holds(self.uids, made.uids) and _holds(self.gids, made.gids)


ROOTS = Manner()


@functools.cache
def current() -> Manner:
    """Return the manner of this process. Nothing of it changes once a store is open."""
    effective = _effective_capabilities()
    if in_first_user_namespace() and effective >> _SYS_ADMIN & 1:
        return ROOTS
    uids, gids = _id_map("uid_map"), _id_map("gid_map")
    several = sum(count for *_, count in uids) > 1 and sum(count for *_, count in gids) > 1
    return Manner("user", several and bool(effective >> _CHOWN & 1), uids, gids)


@functools.cache
def may_override_modes() -> bool:
    """Tell whether we reach what the mode of a file keeps even its owner from."""
    return bool(_effective_capabilities() >> _DAC_OVERRIDE & 1)


def stamp(root: str) -> None:
    """Note beside a new store how it is written; root's needs no note."""
    ours = current()
    if ours == ROOTS:
        return
    import json

    value = [ours.marks, ours.all_owners, ours.uids, ours.gids]
    with open(f"{root}/{_FILE}", "w", encoding="ascii") as file:
        file.write(f"{json.dumps(value)}\n")


def check(root: str) -> None:
    """Raise StoreError when the store in `root` was written in a manner that we do not share."""
    made, ours = _stamped(root), current()
    if not ours.can_use(made):
        raise StoreError(
            f"open store {root}: it was made {made.describe()}, this process works "
            f"{ours.describe()}",
            hint="use another --root; pybuild info says how this process works, and why",
        )


def _stamped(root: str) -> Manner:
    try:
        with open(f"{root}/{_FILE}", encoding="ascii") as file:
            text = file.read()
    except FileNotFoundError:
        return ROOTS
    import json

    try:
        marks, all_owners, uids, gids = json.loads(text)
    except ValueError as error:
        raise StoreError(f"open store {root}: its manner file is damaged") from error
    return Manner(marks, all_owners, _rows(uids), _rows(gids))


def _rows(rows: list[list[int]]) -> IdMap:
    return tuple((inside, outside, count) for inside, outside, count in rows)


def _holds(ours: IdMap, made: IdMap) -> bool:
    """Tell whether every id of `made` is the same one in `ours`, which may have more."""
    return all(
        any(
            inside <= first and first + count <= inside + most and outside - inside == at - first
            for inside, outside, most in ours
        )
        for first, at, count in made
    )


def _id_map(name: str) -> IdMap:
    with open(f"/proc/self/{name}", encoding="ascii") as file:
        rows = [line.split() for line in file]
    return tuple((int(inside), int(outside), int(count)) for inside, outside, count in rows)


def _effective_capabilities() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0
