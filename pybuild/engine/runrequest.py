"""What `run` is asked to do, as one value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.engine.walls import Walls
from values.classes import dataclass

if TYPE_CHECKING:
    from runtime.network.ports import Published


@dataclass(frozen=True, slots=True)
class HostFolder:
    """A file or folder of the host shown in the container.

    source, target: absolute. must_exist: a missing source is an error (`--mount`); else it is
    made as a folder, as docker does for `-v`.
    """

    source: str
    target: str
    read_only: bool = False
    must_exist: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A container to make and run.

    command: None means the image's own. entrypoint: None means the image's own, an empty tuple
    none at all. env: `K=V` sets, `K` alone removes what the image sets.
    user: as USER writes it; None means the image's. network: as `--network` says it, or empty for
    the default. ports: of the host that lead into it. publish_all: and one for each that the image
    exposes. extra_hosts: (name, address) pairs for /etc/hosts; an address may be `host-gateway`.
    dns: name servers instead of the host's. remove: nothing is kept of it afterwards.
    walls: rights and limits.
    pull: when the registry is asked for the image: missing, always or never.
    """

    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    name: str | None = None
    env: tuple[str, ...] = ()
    working_dir: str | None = None
    user: str | None = None
    folders: tuple[HostFolder, ...] = ()
    network: str = ""
    ports: tuple[Published, ...] = ()
    publish_all: bool = False
    dns: tuple[str, ...] = ()
    hostname: str | None = None
    extra_hosts: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    tty: bool = False
    interactive: bool = False
    read_only: bool = False
    remove: bool = False
    pull: str = "missing"
    walls: Walls = Walls()
