"""What `--network` says, as a value. Pure, and imports next to nothing: every `run` asks.

The words are docker's (default, host, none) and podman's (pasta, slirp4netns, with options).
"""

from runtime.errors import InvalidNetwork
from values.classes import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["default", "host", "none", "pasta", "slirp4netns"]

KINDS: "tuple[Kind, ...]" = ("default", "host", "none", "pasta", "slirp4netns")
HELPERS = ("pasta", "slirp4netns")


@dataclass(frozen=True, slots=True)
class NetworkMode:
    """A network that was asked for. options: of the helper, as podman writes them."""

    kind: "Kind" = "default"
    options: tuple[str, ...] = ()


def parse_mode(text: str | None) -> NetworkMode:
    """Return what `--network TEXT` asks for; None and "" ask for the default.

    Raises InvalidNetwork for an unknown mode, and for options that no helper takes.
    """
    name, colon, rest = (text or "default").partition(":")
    options = tuple(rest.split(",")) if rest else ()
    for kind in KINDS:
        if name == kind and (not colon or name in HELPERS):
            _check(kind, options)
            return NetworkMode(kind, options)
    known = "default, none, host, pasta[:OPTIONS], slirp4netns[:OPTIONS]"
    raise InvalidNetwork(f'--network: unknown mode "{text}"', hint=f"there is {known}")


def _check(kind: "Kind", options: tuple[str, ...]) -> None:
    """Raise InvalidNetwork for options that the helper does not take, or that are not for it."""
    if kind == "pasta":
        from runtime.network.pasta import checked

        checked(options)
    elif kind == "slirp4netns":
        from runtime.network.slirp import parse_options

        parse_options(options)
