"""How the owner of a file is noted on it where the disk cannot say it. Pure, and imports nothing.

A file and a directory bear an extended attribute. Symlinks and fifos cannot have one of class
`user`: theirs is written into the time of the last access, as a moment after the year 2242. The
kernel does not touch such a time (relatime: it is later than the last change, and not a day old),
overlayfs copies it up, a rename keeps it, and what is made anew has another: a note is never
taken for that of another file.
"""

NOTE = "user.pybuild.owner"

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
