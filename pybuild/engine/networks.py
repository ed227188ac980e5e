"""The network of one container: which it is, the ports that lead into it, what it is told of it.

Owns what `run` decides about it. Refuses to know how the network is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.errors import ContainerError
from runtime.network.choice import choose
from runtime.network.modes import parse_mode
from runtime.network.network import Network, in_network
from values.classes import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.engine.runrequest import RunRequest
    from runtime.execution import Execution
    from runtime.network.ports import Published


class Connection:
    """The network of a container that may have one of its own.

    A context manager; at its end nothing of the network is left. kind: host, none, pasta or
    slirp4netns. ports: what is published, one by one, as the container's record has them.
    """

    def __init__(self, request: RunRequest) -> None:
        """Decide; nothing starts. Raises InvalidNetwork, NetworkFailed, ContainerError."""
        self._request = request
        self._choice = choose(parse_mode(request.network))
        self._network: Network | None = None
        self.kind = self._choice.kind
        self.ports: tuple[tuple[str, int, int, str], ...] = ()
        if (request.ports or request.publish_all) and not self._choice.is_own:
            raise self._no_ports()

    def begin(self, exposed: Iterable[str]) -> None:
        """Begin to make it, where it is one of its own and was not. exposed: as `80/tcp`.

        Raises NetworkFailed, InvalidNetwork for a port that cannot be published.
        """
        if not self._choice.is_own or self._network is not None:
            return
        ports = self._request.ports
        if self._request.publish_all:
            ports = (*ports, *_published(exposed, ports))
        if ports:
            from runtime.network.ports import settled

            ports = settled(ports)
            self.ports = tuple(
                (port.address, port.host + n, port.inside + n, port.protocol)
                for port in ports
                for n in range(port.count)
            )
        self._network = Network(self._choice, ports, host=self._wants_host())

    def connected(self, execution: Execution) -> Execution:
        """Return `execution` in the network, when that works. Raises NetworkFailed."""
        execution = replace(execution, network="none" if self.kind == "none" else "host")
        return in_network(execution, self._network.joined() if self._network else None)

    def handle(self) -> tuple[int, int] | None:
        """Return what ends the network where this object is gone; None where there is none."""
        return self._network.handle() if self._network else None

    def _wants_host(self) -> bool:
        from runtime.hostfiles import HOST_GATEWAY

        return any(address == HOST_GATEWAY for _, address in self._request.extra_hosts)

    def _no_ports(self) -> ContainerError:
        if self.kind == "none":
            return ContainerError(
                "publish ports: --network none has nothing that leads to the container",
                hint="leave --network out, or name pasta or slirp4netns",
            )
        why = "; ".join(map(str, self._choice.reasons))
        return ContainerError(
            "publish ports: the container is in the host's network",
            hint=why or "--network pasta gives it one of its own; else its ports are the host's",
        )

    @staticmethod
    def end(handle: tuple[int, int]) -> None:
        """End a network by its handle."""
        Network.end(handle)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        if self._network is not None:
            self._network.close()


def _published(exposed: Iterable[str], ports: tuple[Published, ...]) -> Iterable[Published]:
    """Yield what -P publishes: each port that the image exposes and that no -p names."""
    from builder.ports import exposed_ports
    from runtime.network.ports import PROTOCOLS, Published

    named = {(p.protocol, p.inside + n) for p in ports for n in range(p.count)}
    for word in exposed:
        for single in exposed_ports(word):
            number, _, protocol = single.partition("/")
            if protocol in PROTOCOLS and (protocol, int(number)) not in named:
                yield Published(0, int(number), protocol=protocol)
