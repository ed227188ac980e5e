"""What docker gives a container that asks for nothing special.

Source: moby, oci/defaults.go, oci/caps/defaults.go and daemon/oci_linux.go.
"""

import os

from runtime import jsontext
from runtime.linux.capabilities import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.spec import Device, DeviceRule, Mount

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
ALL_CAPABILITIES = NAMES

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READ_ONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

# name, major, minor: what every container finds in /dev (runtime-spec, "Default Devices")
_CHARACTER_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
# Symlinks that every container finds in /dev (runtime-spec, "Dev symbolic links").
DEV_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)


_STRICT = ("nosuid", "noexec", "nodev")


def devices() -> "list[Device]":
    """Return the device nodes that every container has."""
    return [
        {
            "path": f"/dev/{name}",
            "type": "c",
            "major": major,
            "minor": minor,
            "fileMode": 0o666,
            "uid": 0,
            "gid": 0,
        }
        for name, major, minor in _CHARACTER_DEVICES
    ]


DENY_ALL_DEVICES: "DeviceRule" = {"allow": False, "access": "rwm"}


def device_rules() -> "list[DeviceRule]":
    """Return docker's device rules: any node may be made, only the harmless ones opened."""
    return [DENY_ALL_DEVICES, *usual_device_rules()]


def usual_device_rules() -> "list[DeviceRule]":
    """Return the rules that allow what every container has."""
    rules: list[DeviceRule] = [
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "b", "access": "m"},
    ]
    opened = [(major, minor) for _, major, minor in _CHARACTER_DEVICES]
    opened += [(5, 1), (5, 2), (136, -1)]  # console, ptmx, pts/*
    for major, minor in opened:
        rule: DeviceRule = {"allow": True, "type": "c", "major": major, "access": "rwm"}
        if minor >= 0:
            rule["minor"] = minor
        rules.append(rule)
    return rules


def mounts(*, shm_bytes: int = 64 << 20, privileged: bool = False) -> "list[Mount]":
    """Return the file systems that every container has, in the order of mounting."""
    read_only = [] if privileged else ["ro"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": list(_STRICT)},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": [*_STRICT, *read_only],
        },
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*_STRICT, *read_only],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": [*_STRICT]},
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*_STRICT, "mode=1777", f"size={shm_bytes}"],
        },
    ]


def seccomp_profile() -> dict[str, object]:
    """Return docker's default seccomp profile, in docker's own form."""
    # importlib.resources takes 5 ms to import.
    with open(os.path.join(os.path.dirname(__file__), "seccomp.json"), "rb") as file:
        profile = jsontext.loads(file.read())
    assert isinstance(profile, dict)
    return profile
