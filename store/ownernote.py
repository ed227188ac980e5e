"""How owner and mode of a file are noted on it where the disk cannot say it. Pure.

A file and a directory bear an extended attribute. Symlinks and fifos cannot have one of class
`user`: theirs is written into the time of the last access, as a moment after the year 2242. The
kernel does not touch such a time (relatime: it is later than the last change, and not a day old),
overlayfs copies it up, a rename keeps it, and what is made anew has another: a note is never
taken for that of another file.

Who may not override modes could not reach what even its owner may not read: the mode on disk is
wider then, and the real one an attribute, beside the one that it was noted for.
"""

NOTE = "user.pybuild.owner"
MODE_NOTE = "user.pybuild.mode"

Owner = tuple[int, int]

_NANO = 1_000_000_000
# What ext4 can hold ends at 2^34 - 2^31 s; two ids of 31 bits take 2^62 ns, which is 4.6e9 s.
_FIRST_NS = (1 << 33) * _NANO
_ID_BITS = 31


def to_note(uid: int, gid: int) -> bytes:
    """Return what the extended attribute says."""
    return b"%d:%d" % (uid, gid)


def from_note(value: bytes) -> Owner:
    """Return user and group; root's for what is no note."""
    uid, _, gid = value.partition(b":")
    return (int(uid), int(gid)) if uid.isdigit() and gid.isdigit() else (0, 0)


def to_mode_note(mode: int, on_disk: int) -> bytes:
    """Return what the attribute for a mode says."""
    return b"%o:%o" % (mode, on_disk)


def from_mode_note(value: bytes, on_disk: int) -> int:
    """Return the real mode of what has the mode `on_disk`: that, where somebody has changed it."""
    mode, _, noted_for = value.partition(b":")
    if not (mode.isdigit() and noted_for.isdigit()) or int(noted_for, 8) != on_disk:
        return on_disk
    return int(mode, 8)


def to_atime_ns(uid: int, gid: int, mtime_ns: int) -> int:
    """Return the time of access that says the owner; for root, and ids from 2^31 on, mtime's."""
    if not (uid or gid) or (uid | gid) >> _ID_BITS:
        return mtime_ns
    return _FIRST_NS + (uid << _ID_BITS | gid)


def from_atime_ns(atime_ns: int) -> Owner:
    """Return user and group; root's for the time of a real access."""
    value = atime_ns - _FIRST_NS
    if value <= 0 or value >> 2 * _ID_BITS:
        return 0, 0
    return value >> _ID_BITS, value & ((1 << _ID_BITS) - 1)
