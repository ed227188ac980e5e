"""Capability names, their numbers, and the calls that set them."""

from runtime.linux import constants as c
from runtime.linux.libc import libc, oserror
from runtime.linux.process import prctl
from store import cdata

# In the kernel's order (include/uapi/linux/capability.h): a name's index is its number.
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}
_VERSION_3 = 0x20080522


class _Header(cdata.Structure):
    _fields_ = (("version", cdata.c_uint32), ("pid", cdata.c_int))


class _Data(cdata.Structure):
    _fields_ = (
        ("effective", cdata.c_uint32),
        ("permitted", cdata.c_uint32),
        ("inheritable", cdata.c_uint32),
    )


def mask(names: "tuple[str, ...] | list[str]") -> int:
    """Return the bit set of capability `names`; an unknown name raises KeyError."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def capset(effective: int, permitted: int, inheritable: int) -> None:
    header = _Header(_VERSION_3, 0)
    data = (_Data * 2)()
    for index in range(2):
        shift = 32 * index
        data[index].effective = (effective >> shift) & 0xFFFFFFFF
        data[index].permitted = (permitted >> shift) & 0xFFFFFFFF
        data[index].inheritable = (inheritable >> shift) & 0xFFFFFFFF
    if libc.capset(cdata.byref(header), data) < 0:
        raise oserror("capset")


def capget() -> tuple[int, int, int]:
    """Return the calling thread's (effective, permitted, inheritable) bit sets."""
    header = _Header(_VERSION_3, 0)
    data = (_Data * 2)()
    if libc.capget(cdata.byref(header), data) < 0:
        raise oserror("capget")
    return (
        data[0].effective | data[1].effective << 32,
        data[0].permitted | data[1].permitted << 32,
        data[0].inheritable | data[1].inheritable << 32,
    )


def limit_bounding(keep: int) -> int:
    """Drop every capability outside `keep` from the bounding set; return what was in it."""
    had = 0
    for number in range(64):
        try:
            present = prctl(c.PR_CAPBSET_READ, number)
        except OSError:
            break  # EINVAL: past the last capability of this kernel
        if not present:
            continue
        had |= 1 << number
        if not keep >> number & 1:
            prctl(c.PR_CAPBSET_DROP, number)
    return had


def set_ambient(bits: int) -> None:
    """Make `bits` the ambient set; they must be permitted and inheritable already."""
    prctl(c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(64):
        if bits >> number & 1:
            prctl(c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, number)
