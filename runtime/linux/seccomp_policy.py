"""What a seccomp profile says: the rules that hold for one process on one machine.

Owns the reading of a profile (the OCI `linux.seccomp` object, and docker's form of it with
archMap, includes and excludes). Knows no BPF and, but for their names, no system calls.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from runtime.errors import InvalidSpec

ERRNO = 0x00050000
KILL_THREAD = 0x00000000
EPERM = 1
ENOSYS = 38
_TRACE = 0x7FF00000
_ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
# A default that lets calls through: no ENOSYS for the newest ones. A tracer is to see them.
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")


class ProfileError(InvalidSpec):
    """A seccomp profile says something that cannot be compiled."""


class Abi(NamedTuple):
    """A set of system call numbers and the way arguments are passed."""

    name: str  # as runtime.linux.syscalls has it
    scmp: str  # as profiles have it
    goarch: str  # as includes.arches of docker's profiles has it
    audit: int  # AUDIT_ARCH_*: seccomp_data.arch
    wide: bool  # arguments of 64 bits


_ABIS = (
    Abi("x86_64", "SCMP_ARCH_X86_64", "amd64", 0xC000003E, True),
    Abi("x86", "SCMP_ARCH_X86", "x86", 0x40000003, False),
    Abi("x32", "SCMP_ARCH_X32", "x32", 0xC000003E, False),
    Abi("aarch64", "SCMP_ARCH_AARCH64", "arm64", 0xC00000B7, True),
    Abi("arm", "SCMP_ARCH_ARM", "arm", 0x40000028, False),
)
_BY_SCMP = {abi.scmp: abi for abi in _ABIS}
X32 = _BY_SCMP["SCMP_ARCH_X32"]
_MACHINES = {
    **{name: abi for abi in _ABIS for name in (abi.name, abi.scmp, abi.goarch)},
    **dict.fromkeys(("i386", "i486", "i586", "i686", "386"), _BY_SCMP["SCMP_ARCH_X86"]),
    **dict.fromkeys(("armv6l", "armv7l", "armv8l"), _BY_SCMP["SCMP_ARCH_ARM"]),
}


class Comparison(NamedTuple):
    """A condition on one argument; the values are of 64 bits."""

    argument: int
    operator: str  # SCMP_CMP_* without the prefix
    value: int  # the mask of MASKED_EQ
    value_two: int  # what the masked argument must be


class Rule(NamedTuple):
    """What a call gets when all comparisons hold."""

    action: int  # SECCOMP_RET_* with its data
    comparisons: tuple[Comparison, ...]


class Policy(NamedTuple):
    """A profile after includes, excludes and defaults."""

    default: int
    newest: int  # for calls newer than all of `mentioned`
    rules: tuple[tuple[str, Rule], ...]  # by name of the call
    mentioned: frozenset[str]
    abis: tuple[Abi, ...]  # the native one first


def policy_for(
    profile: Mapping[str, Any], capabilities: Sequence[str], machine: str, release: str
) -> Policy:
    """Return what `profile` says for a process on this machine.

    capabilities: the process's bounding set. release: of the kernel, for minKernel.
    Raises ProfileError when the profile is malformed or the machine unknown.
    """
    if machine not in _MACHINES:
        raise ProfileError(f"read seccomp profile: unknown machine {machine}")
    native = _MACHINES[machine]
    default = _action(profile, "defaultAction", "defaultErrnoRet")
    entries = profile.get("syscalls") or ()
    return Policy(
        default=default,
        newest=default if profile["defaultAction"] in _PERMISSIVE else ERRNO | ENOSYS,
        rules=tuple(
            (name, rule)
            for entry in entries
            if _applies(entry, capabilities, native, release)
            for rule in _rules(entry)
            if rule.action != default
            for name in _names(entry)
        ),
        mentioned=frozenset(name for entry in entries for name in _names(entry)),
        abis=tuple(dict.fromkeys(_abis(profile, native))),
    )


def _abis(profile: Mapping[str, Any], native: Abi) -> Iterator[Abi]:
    """Return the ABIs that get rules.

    One that we have no table of cannot run beside those we have: it is left out, and refused.
    """
    yield native
    names = list(profile.get("architectures") or ())
    for entry in profile.get("archMap") or ():
        if entry.get("architecture") == native.scmp:
            names += [name for name in entry.get("subArchitectures") or () if name != X32.scmp]
    yield from (_BY_SCMP[name] for name in names if name in _BY_SCMP)


def _names(entry: Mapping[str, Any]) -> Sequence[str]:
    names: Sequence[str] = entry.get("names") or ()
    return [entry["name"], *names] if entry.get("name") else names


def _action(source: Mapping[str, Any], action_key: str, errno_key: str) -> int:
    name = source.get(action_key)
    if name not in _ACTIONS:
        raise ProfileError(f"read seccomp profile: unknown {action_key} {name!r}")
    action = _ACTIONS[name]
    if action in (ERRNO, _TRACE):
        errno = source.get(errno_key)
        if errno is None:
            errno = EPERM
        if not isinstance(errno, int) or not 0 <= errno <= 0xFFFF:
            raise ProfileError(f"read seccomp profile: bad {errno_key} {errno!r}")
        action |= errno
    return action


def _applies(
    entry: Mapping[str, Any], capabilities: Sequence[str], native: Abi, release: str
) -> bool:
    """Tell whether docker's includes and excludes let `entry` take part."""
    includes = entry.get("includes") or {}
    excludes = entry.get("excludes") or {}
    if native.goarch in (excludes.get("arches") or ()):
        return False
    if any(name in capabilities for name in excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and _version(release) >= _version(excludes["minKernel"]):
        return False
    if includes.get("arches") and native.goarch not in includes["arches"]:
        return False
    if not all(name in capabilities for name in includes.get("caps") or ()):
        return False
    return not includes.get("minKernel") or _version(release) >= _version(includes["minKernel"])


def _version(release: str) -> tuple[int, int]:
    """Return the first two numbers of a kernel release: 6, 1 of 6.1.0-18-amd64."""
    major, _, rest = release.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not (major.isdecimal() and minor):
        raise ProfileError(f"read seccomp profile: not a kernel version: {release!r}")
    return int(major), int(minor)


def _rules(entry: Mapping[str, Any]) -> list[Rule]:
    action = _action(entry, "action", "errnoRet")
    comparisons = tuple(_comparison(arg) for arg in entry.get("args") or ())
    if len({comparison.argument for comparison in comparisons}) < len(comparisons):
        return [Rule(action, (comparison,)) for comparison in comparisons]
    return [Rule(action, comparisons)]


def _comparison(arg: Mapping[str, Any]) -> Comparison:
    argument, operator = arg.get("index"), str(arg.get("op")).removeprefix("SCMP_CMP_")
    values = [arg.get(key) or 0 for key in ("value", "valueTwo")]
    if not isinstance(argument, int) or not 0 <= argument < 6:
        raise ProfileError(f"read seccomp profile: no argument {argument!r}")
    if operator not in _OPERATORS:
        raise ProfileError(f"read seccomp profile: unknown op {arg.get('op')!r}")
    if not all(isinstance(value, int) and 0 <= value < 1 << 64 for value in values):
        raise ProfileError(f"read seccomp profile: not values of 64 bits: {values}")
    return Comparison(argument, operator, *values)
