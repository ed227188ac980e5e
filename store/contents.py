"""What unpacking a tar is told, and what it finds out."""

from store.confinement import STRICT, Confinement, rooted_name
from store.headers import HeaderWriter
from store.overlay import Merged
from store.tarreader import Member
from values.classes import dataclass, field


@dataclass(slots=True)
class Contents:
    """What an unpacked tar turned out to hold.

    missing: parent directories without an entry of their own; external: hard links (path, target)
    whose target is not inside. A layer with any of these depends on what lies below it.
    unmade: devices that the disk does not have, for want of the right to make them.
    displaced: (number of data references before, path, number in the folder of lost files), for
    entries that a later one of the same tar replaced.
    """

    entries: int = 0
    content_bytes: int = 0
    newest_s: int = 0
    root: Member | None = None
    opaque_root: bool = False
    whiteouts: dict[bytes, None] = field(default_factory=dict)
    opaques: set[bytes] = field(default_factory=set)
    missing: set[bytes] = field(default_factory=set)
    external: list[tuple[bytes, bytes]] = field(default_factory=list)
    unmade: list[bytes] = field(default_factory=list)
    displaced: list[tuple[int, bytes, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Policy:
    """How a tar is taken.

    headers: where the bytes that are no file's go, for a layer; None drops them.
    lost: a folder for data that a later entry replaces, so that the tar can be made again.
    below: what lies below the tree; None when it is not known.
    whiteouts: whether `.wh.` names mean deletion; a plain archive (ADD) has plain names, and
    nothing lies below it. root: whether an entry for the root itself counts. confinement: what
    keeps it inside.
    """

    headers: HeaderWriter | None = None
    lost: str | None = None
    below: Merged | None = None
    whiteouts: bool = True
    root: bool = True
    confinement: Confinement = STRICT


PLAIN_ARCHIVE = Policy(whiteouts=False, root=False, confinement=Confinement(name=rooted_name))
"""How ADD and build contexts take an archive."""
