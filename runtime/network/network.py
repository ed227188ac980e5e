"""A network of its own with a way out, from the start of its helper to its end."""

import contextlib
import os
import select
import threading

from runtime.errors import NetworkFailed
from runtime.hostfiles import HOST_GATEWAY, LOOPBACK, with_gateway
from runtime.launch.channel import receive
from runtime.launcher import Launcher
from values.classes import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.execution import Execution
    from runtime.network.choice import Choice
    from runtime.network.ports import Published
    from runtime.plan import NetworkPlan

_READY_S = 30.0
# As docker sets them in a container's network. Without the last an address of IPv6 is of no use
# for a second; nobody else could have it.
_SYSCTL = [
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
]
_SCRATCH = ("/mnt", "/media", "/srv", "/opt", "/tmp")


@dataclass(frozen=True, slots=True)
class Joined:
    """What a container has to know of the network that it joins.

    namespace: descriptor, to be passed to its launcher. address: the container's own, "" where it
    has none of IPv4. resolver: forwards to the host's. host: how the host is reached, "" where it
    is not.
    """

    namespace: int
    address: str
    resolver: str
    host: str

    @property
    def path(self) -> str:
        """The namespace as an `Execution` names it, in whose `lock_fds` the descriptor is."""
        return f"/proc/self/fd/{self.namespace}"


class Network:
    """A network namespace, and pasta or slirp4netns in front of it.

    A context manager; at its end the helper is dead. It is so, too, when this process ends,
    however it does. Containers may join from any thread.
    """

    def __init__(
        self, choice: "Choice", ports: "tuple[Published, ...]" = (), *, host: bool = False
    ) -> None:
        """Begin to make it; `joined` waits until it works.

        ports: with numbers of the host. host: the host must have an address inside.
        Raises InvalidNetwork.
        """
        self._choice = choice
        self._wants_host = host
        self._lock = threading.Lock()
        self._joined: Joined | None = None
        self._failure: NetworkFailed | None = None
        plan = _plan(choice, ports, host=host)
        self._launcher = Launcher("network")
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._launcher.launch(plan, (null, null, null))
        finally:
            os.close(null)

    def joined(self) -> Joined:
        """Return the network, when it works. Raises NetworkFailed, each time."""
        with self._lock:
            if self._joined is None and self._failure is None:
                try:
                    self._joined = self._await()
                except NetworkFailed as failure:
                    self._failure = failure
            if self._joined is None:
                assert self._failure is not None
                raise self._failure
            return self._joined

    @property
    def is_alive(self) -> bool:
        """Whether its helper runs, or is on its way."""
        return self._joined is None or not self._launcher.has_ended()

    def handle(self) -> tuple[int, int]:
        """Return what `end` takes where this object is gone, after an execve."""
        return self._launcher.handle()

    def close(self) -> None:
        """End it, and return when the helper is dead; again is fine."""
        self._launcher.wait()
        with contextlib.suppress(OSError):
            os.close(self._launcher.report)
        joined, self._joined = self._joined, None
        if joined is not None:
            os.close(joined.namespace)

    @staticmethod
    def end(handle: tuple[int, int]) -> None:
        """End a network by its handle, whose descriptor was kept open."""
        descriptor, pid = handle
        os.close(descriptor)
        with contextlib.suppress(ChildProcessError):  # somebody else's, see launch.network
            os.waitpid(pid, 0)

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _await(self) -> Joined:
        kind = self._choice.kind
        while True:
            message = self._next()
            if message is None:
                raise NetworkFailed(f"network {kind}: what keeps it died")
            name, *rest = message
            if name == "guard":
                self._launcher.succeeded_by(int(str(rest[0])))
            elif name == "failed":
                raise NetworkFailed(
                    f"network {kind}: {rest[0]}", hint="--network host is the host's own"
                )
            else:
                (namespace,) = self._launcher.received()
                attempt, address, gateway = rest
                return self._described(namespace, int(str(attempt)), str(address), str(gateway))

    def _next(self) -> tuple[object, ...] | None:
        """Return the next message, None where it is dead. Raises NetworkFailed after a while."""
        poller = select.poll()
        poller.register(self._launcher.report, select.POLLIN)
        if not poller.poll(1000 * _READY_S):
            self._launcher.kill()
            raise NetworkFailed(
                f"network {self._choice.kind}: it did not work within {_READY_S:.0f} s"
            )
        return receive(self._launcher.report)

    def _described(self, namespace: int, attempt: int, address: str, gateway: str) -> Joined:
        if self._choice.kind == "slirp4netns":
            from runtime.network import slirp

            options = slirp.parse_options(self._choice.options)
            host = options.address(slirp.HOST) if options.allow_host_loopback else _own_address()
            address = options.address(slirp.CONTAINER)
            return Joined(namespace, address, options.address(slirp.RESOLVER), host)
        from runtime.network import pasta

        known = pasta.checked(self._choice.options)
        host = pasta.host_of(known, gateway)
        if self._wants_host and not host:
            host = gateway if attempt else pasta.HOST_ADDRESS
        resolver = pasta.given(known, "--dns-forward") or pasta.FORWARDER
        # Queries of IPv4 do not leave where there is no address of IPv4.
        return Joined(namespace, address, resolver if address or ":" in resolver else "", host)


def _has_all_ids() -> bool:
    """Tell whether every id is what it is on the host.

    That is what pasta takes for the host's root, also where root, who may not mount, entered a
    user namespace: it then becomes nobody unless told otherwise, and may not join the container.
    """
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        return lines.read().split() == ["0", "0", "4294967295"]


def _plan(choice: "Choice", ports: "tuple[Published, ...]", *, host: bool) -> "NetworkPlan":
    is_pasta = choice.kind == "pasta"
    scratch = next((path for path in _SCRATCH if _is_free(path, choice.program)), "/tmp")
    requests: list[tuple[str, str]] = []
    if is_pasta:
        from runtime.network import pasta

        tries = pasta.arguments(choice.options, ports, host=host, privileged=_has_all_ids())
        tries = [[*words, "--netns", ""] for words in tries]
    else:
        from runtime.network import slirp

        options, requests = slirp.parse_options(choice.options), slirp.requests(ports)
        tries = [[*slirp.arguments(options, 3, f"{scratch}/api" if ports else ""), "", "tap0"]]
    return {
        "caller": os.getpid(),
        "program": choice.program,
        "tries": tries,
        "env": {"PATH": os.defpath, "LC_ALL": "C"},
        "goes_to_background": is_pasta,
        "sysctl": _SYSCTL,
        "scratch": scratch,
        "requests": requests,
    }


def _is_free(path: str, helper: str) -> bool:
    """Tell whether a mount on `path` covers nothing that the helper needs."""
    return os.path.isdir(path) and not os.path.realpath(helper).startswith(f"{path}/")


def _own_address() -> str:
    """Return this host's address by which others reach it, "" where it has none."""
    import _socket

    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        sock.connect(("192.0.2.1", 9))  # nothing is sent: the kernel only chooses a route
        return str(sock.getsockname()[0])
    except OSError:
        return ""
    finally:
        sock.close()


def in_network(execution: "Execution", joined: Joined | None) -> "Execution":
    """Return `execution` in that network, with its hosts' addresses; None leaves it where it is.

    Raises NetworkFailed where the host is named and has no address.
    """
    named = any(address == HOST_GATEWAY for _, address in execution.extra_hosts)
    if joined is None:
        # On the host's network its loopback is the way to what listens there.
        return replace(execution, extra_hosts=with_gateway(execution.extra_hosts, LOOPBACK))
    if named and not joined.host:
        raise NetworkFailed("host-gateway: the host has no address in this network")
    return replace(
        execution,
        network_namespace=joined.path,
        network_address=joined.address,
        network_resolver=joined.resolver,
        extra_hosts=with_gateway(execution.extra_hosts, joined.host),
        lock_fds=(*execution.lock_fds, joined.namespace),
    )
