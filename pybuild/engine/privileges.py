"""Whether this process may do what containers and layers need."""

from __future__ import annotations

_NEEDED_CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SYS_ADMIN": 21,
    "CAP_MKNOD": 27,
}


def missing_privileges() -> list[str]:
    """Return the capabilities that building and running need and this process lacks."""
    effective = 0
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith("CapEff:"):
                effective = int(line.split()[1], 16)
    return [name for name, bit in _NEEDED_CAPABILITIES.items() if not effective >> bit & 1]
