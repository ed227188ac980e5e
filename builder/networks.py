"""The network that the RUN steps of a build share, where they do not have the host's.

One namespace with one helper for all steps of a build: to make one takes longer than many a step.
It is made when the first step needs it.
"""

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from runtime.errors import RuntimeFailure
from runtime.hostfiles import HOST_GATEWAY, LOOPBACK, with_gateway
from store.usernamespace import in_first_user_namespace
from values.classes import replace

if TYPE_CHECKING:
    from builder.request import Sandbox
    from runtime.execution import Execution
    from runtime.network.network import Network


class StepNetwork:
    """A context manager; at its end nothing of the network is left. May be used in any thread.

    A step has it whose network is `default`.
    """

    def __init__(self, mode: str, sandbox: "Sandbox") -> None:
        """mode: what `--network` of the build says. sandbox: its extra hosts may name the host."""
        self._mode = mode
        self._wants_host = any(address == HOST_GATEWAY for _, address in sandbox.extra_hosts)
        self._lock = threading.Lock()
        self._network: Network | None = None
        # Root's default, which is decided without looking for programs.
        self._is_hosts = mode in ("host", "none") or (
            mode == "default" and in_first_user_namespace()
        )

    def prepare(self) -> None:
        """Begin to make it, where it is one of its own; why that fails, `connected` says."""
        with suppress(RuntimeFailure):
            self._begin()

    def _begin(self) -> None:
        with self._lock:
            if self._is_hosts or (self._network is not None and self._network.is_alive):
                return
            if self._network is not None:  # somebody killed it, or memory ran out
                self._network.close()
                self._network = None
            from runtime.network.choice import choose
            from runtime.network.modes import parse_mode
            from runtime.network.network import Network

            choice = choose(parse_mode(self._mode))
            if choice.is_own:
                self._network = Network(choice, host=self._wants_host)
            else:
                self._is_hosts = True

    def connected(self, execution: "Execution") -> "Execution":
        """Return `execution` in the network, when that works. Raises NetworkFailed."""
        self._begin()
        if self._network is None:
            return on_host(execution)
        from runtime.network.network import in_network

        # Its own name leads to its loopback, as everywhere: a step may keep what /etc/hosts says.
        return replace(in_network(execution, self._network.joined()), network_address="")

    def __enter__(self) -> "StepNetwork":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_hosts = True
            network, self._network = self._network, None
        if network is not None:
            network.close()


def on_host(execution: "Execution") -> "Execution":
    """Return `execution` with the host's address: there its loopback leads to what listens."""
    return replace(execution, extra_hosts=with_gateway(execution.extra_hosts, LOOPBACK))
