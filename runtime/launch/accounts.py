"""Users and groups, looked up in the image's own account files.

Never through libc's getpwnam: that would load code from the image (nss modules) as root.
"""

from runtime.launch.resolve import read_regular

_LIMIT = 8 << 20
_MAX_ID = 2**31 - 1

# uid, gid, supplementary gids, home directory
Account = tuple[int, int, "list[int]", str]


class UnknownAccount(Exception):
    """The image does not know a name; str() says which."""


def _lines(root: int, path: str, fields: int) -> "list[list[str]]":
    data = read_regular(root, path, _LIMIT) or b""
    rows = [line.split(":") for line in data.decode("utf-8", "surrogateescape").split("\n")]
    return [row for row in rows if len(row) >= fields and not row[0].startswith("#")]


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    value = int(text[:20])
    if value > _MAX_ID:
        raise UnknownAccount(f"id {text} is out of range")
    return value


def _field(row: "list[str]", index: int) -> int | None:
    text = row[index].strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 else None


def _in_range(value: int, name: str) -> int:
    """Return an id. Raises UnknownAccount for one that is too large.

    The system calls take 2^32-1 as "leave it as it is", and it is root's.
    """
    if value > _MAX_ID:
        raise UnknownAccount(f"{name}: id {value} is out of range")
    return value


def _user(root: int, name: str) -> "tuple[int, int, str, str | None]":
    """Return (uid, gid, home, login name) of USER's first half; a bare number needs no entry."""
    number = _number(name)
    for row in _lines(root, "etc/passwd", 6):
        uid, gid = _field(row, 2), _field(row, 3)
        if uid is None or gid is None:
            continue
        if row[0] == name or (number is not None and uid == number):
            return _in_range(uid, name), _in_range(gid, name), row[5], row[0]
    if number is None:
        raise UnknownAccount(f"unable to find user {name}: no matching entries in passwd file")
    return number, 0, "", None


def home_of(root: int, uid: int) -> str:
    """Return the home directory of `uid`, `/` where no entry says one."""
    for row in _lines(root, "etc/passwd", 6):
        if _field(row, 2) == uid:
            return row[5] or "/"
    return "/"


def _group(root: int, name: str) -> int:
    number = _number(name)
    for row in _lines(root, "etc/group", 3):
        gid = _field(row, 2)
        if gid is not None and row[0] == name:
            return _in_range(gid, name)
    if number is None:
        raise UnknownAccount(f"unable to find group {name}: no matching entries in group file")
    return number


def _supplementary(root: int, login: str) -> "list[int]":
    groups = []
    for row in _lines(root, "etc/group", 4):
        gid = _field(row, 2)
        if gid is not None and login in row[3].strip().split(","):
            groups.append(_in_range(gid, row[0]))
    return groups


def look_up(root: int, user: str, additional: "list[int | str]") -> Account:
    """Resolve `user` as USER writes it: `name`, `uid`, `name:group`, `uid:gid`; empty is root.

    An explicit group means: no supplementary groups but those in `additional`.
    Raises UnknownAccount for a name that the image does not have.
    """
    name, _, group = user.partition(":")
    uid, gid, home, login = _user(root, name or "0")
    supplementary: list[int] = []
    if group:
        gid = _group(root, group)
    elif login is not None:
        supplementary = _supplementary(root, login)
    for extra in additional:
        supplementary.append(_group(root, extra) if isinstance(extra, str) else extra)
    # The primary group is listed too, so that no rule against a group can be evaded by the lack
    # of it (CVE-2022-36109).
    return uid, gid, sorted({gid, *supplementary}), home or "/"
