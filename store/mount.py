"""Mounts as values.

The store says which mount shows a snapshot; it never calls mount(2). The runtime performs it.
"""

from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class OverlayMount:
    """A root file system described, not mounted.

    base: absolute directory that every relative path below is relative to (the store's root).
    lowers: lower directories, topmost first, relative to `base`, short; may be empty only when
    `upper` is set, and then the file system starts empty.
    upper, work: relative to `base`; both None for a read-only view.
    stubs: a lowest directory of empty mount points (proc, dev, sys, etc/hosts, ...) that keeps
    the runtime's mount targets out of the upper directory; None where nothing will be mounted.
    Read-only with a single lower: a bind mount of that directory shows the same (overlay wants
    two lowers). user_marks: overlay's xattrs are of the class `user.`, as in a user namespace.
    Options always passed: metacopy=off, redirect_dir=off, index=off.
    """

    base: str
    lowers: tuple[str, ...]
    upper: str | None = None
    work: str | None = None
    stubs: str | None = None
    volatile: bool = False
    user_marks: bool = False
