"""Owners and modes as COPY and ADD are told them: --chown, --chmod and USER.

Names are looked up in the passwd and group files of a root file system, as data: nothing of the
image runs. Source: Dockerfile reference, "COPY --chown --chmod"; chmod(1) for symbolic modes.
"""

import errno
import os
import re
import stat
from collections.abc import Callable

from builder.rootpath import Follow, resolve
from values.classes import dataclass

_MAX_BYTES = 16 << 20
_MAX_ID = (1 << 31) - 1
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXstugo]*)+)")
_ACTION = re.compile(r"([-+=])([rwxXstugo]*)")
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}


@dataclass(frozen=True, slots=True)
class Owner:
    """A numeric owner, and the name that was not found, if any (it then counts as root)."""

    uid: int
    gid: int
    unknown: str | None = None

    @property
    def ids(self) -> tuple[int, int]:
        """User and group id, as os.chown takes them."""
        return self.uid, self.gid


def find_owner(text: str, root: str, follow: Follow = resolve) -> Owner:
    """Return the owner that `user[:group]` means in the root file system at `root`.

    A numeric user alone has the group of the same number, a named user alone its primary group;
    behind a colon nothing is 0, and `root` is 0 without a look into the image. An unknown user is
    root, an unknown group the user's own; ids above 2^31-1 are 0, as BuildKit does it.
    Raises OSError for a passwd or group file that is a directory.
    """
    user, colon, group = text.partition(":")
    unknown = None
    uid = gid = number_of(user)
    if uid is None or gid is None:
        row = find_row(root, "etc/passwd", user, follow)
        unknown = user if row is None else None
        uid, gid = (0, 0) if row is None else (bounded(row[2]), bounded(row[3]))
    if not colon:
        return Owner(uid, gid, unknown)
    named = number_of(group)
    if named is None:
        row = find_row(root, "etc/group", group, follow)
        if row is None:
            return Owner(uid, gid, unknown or group)
        named = bounded(row[2])
    return Owner(uid, named, unknown)


def number_of(name: str) -> int | None:
    """Return the id that needs no look-up: a number's, root's and that of nothing."""
    if name in ("", "root"):
        return 0
    return bounded(name) if name.isascii() and name.isdigit() else None


def bounded(digits: str) -> int:
    """Return an id as a number; 0 for one that is too large and for what is none."""
    number = int(digits) if digits.isascii() and digits.isdigit() else 0
    return number if number <= _MAX_ID else 0


def find_row(root: str, path: str, name: str, follow: Follow = resolve) -> list[str] | None:
    """Return the fields, four at least, of the first line of a file that begins with `name`.

    path: a passwd or group file. None where there is no such line, and no such file.
    Raises OSError for a directory in its place.
    """
    try:
        # O_NONBLOCK: a fifo in the file's place must not hang us.
        fd = os.open(
            os.path.join(root, follow(root, path)),
            os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC,
        )
    except OSError:
        return None
    kind = os.fstat(fd).st_mode
    if not stat.S_ISREG(kind):
        os.close(fd)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), f"/{path}")
        return None
    with open(fd, "rb") as file:
        text = file.read(_MAX_BYTES).decode("utf-8", "surrogateescape")
    rows = (line.strip().split(":") for line in text.split("\n"))
    found = next((row for row in rows if row[0] == name), None)
    return None if found is None else [*found, "", "", ""]


def parse_chmod(text: str) -> Callable[[int, bool], int]:
    """Return what --chmod does: a function from (permission bits, is a directory) to new bits.

    text: octal up to 7777, or symbolic clauses as `u=rwX,go=rX`. Raises ValueError.
    """
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        fixed = int(text, 8)
        return lambda _mode, _is_dir: fixed
    clauses = text.split(",")
    matches = [_CLAUSE.fullmatch(clause) for clause in clauses]
    if any(match is None for match in matches):
        raise ValueError(
            f'invalid mode "{text}": not an octal number up to 7777, nor as u=rwX,go=rX'
        )
    parts = [(match[1] or "a", _ACTION.findall(match[2])) for match in matches if match]

    def change(mode: int, is_dir: bool) -> int:
        executable = is_dir or bool(mode & 0o111)
        for who, actions in parts:
            for operator, what in actions:
                for part in re.findall(r"[ugo]|[rwxXst]+", what) or [""]:
                    mode = apply_action(mode, who, operator, part, executable)
        return mode

    return change


def apply_action(mode: int, who: str, operator: str, what: str, executable: bool) -> int:
    """Return `mode` after one action of a symbolic mode, as `g+w`.

    executable: whether `X` is `x`. setuid is the user's and setgid the group's, and `=` clears them
    with the rest, but not when it copies; the sticky bit is anybody's but the others'.
    Source: chmod(1) of the BSDs, which BuildKit's follows, with `X` for `=` as on Linux.
    """
    reach = 0
    for letter in who:
        reach |= _WHO[letter]
    if what in ("u", "g", "o"):
        shift = {"u": 6, "g": 3, "o": 0}[what]
        bits, reach = (mode >> shift & 7) * 0o111, reach & 0o777
    else:
        bits = 0
        for letter in what:
            bits |= _BITS.get(letter, 0)
        if "X" in what and executable:
            bits |= 0o111
        if "s" in what:
            bits |= 0o6000
        if "t" in what and set(who) != {"o"}:
            bits, reach = bits | 0o1000, reach | 0o1000
    if operator == "+":
        return mode | bits & reach
    if operator == "-":
        return mode & ~(bits & reach)
    return mode & ~reach | bits & reach
