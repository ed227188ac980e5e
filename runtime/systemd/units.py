"""Names of systemd's units for `linux.cgroupsPath`, which is `slice:prefix:name` then. Pure.

Source: systemd.unit(5), systemd.slice(5); runc, docs/systemd.md.
"""

from runtime.errors import InvalidSpec

_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_LONGEST = 255  # bytes of a unit's name
_PREFIX = "pybuild-runtime"


def scope_of(path: str, container_id: str, *, user: bool) -> "tuple[str, str]":
    """Return (slice, scope) of a container.

    path: cgroupsPath; without one the scope is named after the container. user: of the user's own
    systemd. Raises InvalidSpec.
    """
    usual = "user.slice" if user else "system.slice"
    if not path:
        return usual, f"{_PREFIX}-{_escaped(container_id)}.scope"
    parts = path.split(":")
    if len(parts) != 3:
        raise InvalidSpec(
            f'linux.cgroupsPath: {path!r} is not "slice:prefix:name", which --systemd-cgroup needs'
        )
    slice_name, prefix, name = parts
    scope = f"{prefix}-{name}.scope"
    if not name or not _CHARACTERS.issuperset(scope) or len(scope) > _LONGEST:
        raise InvalidSpec(f"linux.cgroupsPath: {scope!r} is no name of a unit")
    folder_of(slice_name or usual)
    return slice_name or usual, scope


def folder_of(slice_name: str) -> str:
    """Return the path of a slice's cgroup: `/a.slice/a-b.slice` for `a-b.slice`.

    Raises InvalidSpec for what is no slice.
    """
    base = slice_name.removesuffix(".slice")
    if base == "-" and base != slice_name:
        return ""
    parts = base.split("-")
    if base == slice_name or "" in parts or not _CHARACTERS.issuperset(base):
        raise InvalidSpec(f"linux.cgroupsPath: {slice_name!r} is no name of a slice")
    return "".join(f"/{'-'.join(parts[: n + 1])}.slice" for n in range(len(parts)))


def _escaped(text: str) -> str:
    """Return `text` as systemd-escape(1) has it, for characters that a container's ID may have."""
    return text.replace("+", "\\x2b")
