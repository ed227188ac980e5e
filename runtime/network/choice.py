"""Which network a container gets, and why: the helpers that this host has, and what they need."""

import errno
import os

from runtime.errors import NetworkFailed
from runtime.network.modes import HELPERS, NetworkMode
from runtime.rootless.mode import Reason
from runtime.rootless.subordinate import program
from store.usernamespace import in_first_user_namespace
from values.classes import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.network.modes import Kind

_PACKAGES = {"pasta": "passt", "slirp4netns": "slirp4netns"}
_TUN = "/dev/net/tun"


@dataclass(frozen=True, slots=True)
class Choice:
    """The network that a container gets.

    kind: host, none, pasta or slirp4netns. program: of the helper. reasons: why it is not a better
    one, where nobody asked for it.
    """

    kind: "Kind"
    program: str = ""
    options: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it is a network of its own with a way out."""
        return self.kind in HELPERS


def choose(mode: NetworkMode) -> Choice:
    """Return the network that `mode` comes to on this host. Raises NetworkFailed."""
    if mode.kind == "default":
        return _default()
    if mode.kind not in HELPERS:
        return Choice(mode.kind)
    path = program(mode.kind)
    missing = no_tun() if path else _not_installed(mode.kind)
    if missing is not None:
        raise NetworkFailed(f"--network {mode.kind}: {missing.cause}", hint=missing.remedy)
    return Choice(mode.kind, path, mode.options)


def _default() -> Choice:
    """Root has the host's network; others pasta, else slirp4netns, else the host's."""
    if in_first_user_namespace():
        return Choice("host")
    tun = no_tun()
    if tun is not None:
        return Choice("host", reasons=(tun,))
    reasons: list[Reason] = []
    pasta = program("pasta")
    if pasta:
        if has_default_route():
            return Choice("pasta", pasta)
        reasons.append(Reason("the host has no default route, which pasta needs"))
    slirp = program("slirp4netns")
    if slirp:
        reasons = reasons or [_not_installed("pasta")]
        return Choice("slirp4netns", slirp, reasons=tuple(reasons))
    reasons.append(_not_installed(*(name for name in HELPERS if not program(name))))
    return Choice("host", reasons=tuple(reasons))


def _not_installed(*names: str) -> Reason:
    """Return the reason of a host that lacks helpers."""
    packages = " or ".join(_PACKAGES[name] for name in names)
    verb = "is" if len(names) == 1 else "are"
    what = f"{' and '.join(names)} {verb} not installed"
    return Reason(what, f"Debian's package is {packages}")


def no_tun() -> Reason | None:
    """Return why no network device can be made, None where one can."""
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        cause = f"{_TUN}: {os.strerror(error.errno or 0).lower()}"
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return Reason(cause, "as root: modprobe tun; in a container: --device /dev/net/tun")
        return Reason(cause, f"as root: chmod 666 {_TUN}")
    return None


def has_default_route() -> bool:
    """Tell whether some way leads out of this host's network."""
    rows = [*_rows("/proc/net/route"), *_rows("/proc/net/ipv6_route")]
    v4 = any(row[1] == row[7] == "00000000" for row in rows if len(row) == 11)
    v6 = any(
        row[0] == "0" * 32 and row[1] == "00" and row[9] != "lo" for row in rows if len(row) == 10
    )
    return v4 or v6


def _rows(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="ascii") as file:
            return [line.split() for line in file]
    except OSError:
        return []
