"""What this process may do, as a value. Imports nothing that takes time: every command asks."""

from values.classes import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

# First id and how many.
IdRange = tuple[int, int]

# What containers and layers need, and its bit in a set of capabilities.
NEEDED = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SYS_ADMIN": 21,
    "CAP_MKNOD": 27,
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not more is possible, and what would allow it."""

    cause: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.cause} ({self.remedy})" if self.remedy else self.cause


@dataclass(frozen=True, slots=True)
class Mode:
    """How this process makes layers and containers.

    root: with every capability. subordinate: root of a user namespace with many ids. single: root
    of one with a single id. chroot: root that may neither mount nor make namespaces. none: an
    ordinary user who may not either.
    reasons: why it is not a better one. user: our id outside of the namespace. own_proc: whether
    a container can have a /proc, and so processes, of its own.
    """

    kind: "Literal['root', 'subordinate', 'single', 'chroot', 'none']"
    reasons: tuple[Reason, ...] = ()
    user: int = 0
    own_proc: bool = True

    @property
    def may_mount(self) -> bool:
        """Whether mounts and namespaces can be made."""
        return self.kind in ("root", "subordinate", "single")


def missing_capabilities() -> list[str]:
    """Return the capabilities that building and running need and this process lacks."""
    effective = effective_capabilities()
    return [name for name, bit in NEEDED.items() if not effective >> bit & 1]


def effective_capabilities() -> int:
    """Return our effective capabilities as bits."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0
