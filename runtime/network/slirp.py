"""The command line of slirp4netns, and its addresses. Source: slirp4netns(1), podman-run(1)."""

from runtime.errors import InvalidNetwork
from values.classes import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.network.ports import Published

_USUAL_MTU = 65520
_SMALLEST_MTU, _LARGEST_MTU = 68, 65521
_TRUTH = {"true": True, "false": False}
KNOWN = (
    "allow_host_loopback, cidr, enable_ipv6, mtu, outbound_addr, outbound_addr6, "
    "port_handler=slirp4netns"
)


@dataclass(frozen=True, slots=True)
class SlirpOptions:
    """Podman's options of slirp4netns, with podman's defaults."""

    cidr: str = "10.0.2.0/24"
    mtu: int = _USUAL_MTU
    allow_host_loopback: bool = False
    enable_ipv6: bool = True
    outbound_addr: str = ""
    outbound_addr6: str = ""

    def address(self, number: int) -> str:
        """Return the address of that number in the network: 2 host, 3 resolver, 100 container."""
        import ipaddress  # 5 ms, of which pasta needs none

        return str(ipaddress.IPv4Network(self.cidr)[number])


HOST, RESOLVER, CONTAINER = 2, 3, 100


def parse_options(options: tuple[str, ...]) -> SlirpOptions:
    """Return podman's options, `name=value` each. Raises InvalidNetwork."""
    found = SlirpOptions()
    for word in options:
        found = _with(found, word)
    if found.outbound_addr6 and not found.enable_ipv6:
        raise _wrong("outbound_addr6", "needs enable_ipv6=true")
    return found


def _with(options: SlirpOptions, word: str) -> SlirpOptions:
    """Return `options` with one more, `name=value`. Raises InvalidNetwork."""
    name, _, value = word.partition("=")
    match name:
        case "allow_host_loopback":
            return replace(options, allow_host_loopback=_truth(word, value))
        case "enable_ipv6":
            return replace(options, enable_ipv6=_truth(word, value))
        case "mtu" if value.isdecimal() and _SMALLEST_MTU <= int(value) <= _LARGEST_MTU:
            return replace(options, mtu=int(value))
        case "mtu":
            raise _wrong(word, f"is a number from {_SMALLEST_MTU} to {_LARGEST_MTU}")
        case "cidr":
            return replace(options, cidr=_network(word, value))
        case "outbound_addr" if value:
            return replace(options, outbound_addr=value)
        case "outbound_addr6" if value:
            return replace(options, outbound_addr6=value)
        case "port_handler" if value == "slirp4netns":
            return options
    raise _wrong(word, f"is not supported; there is {KNOWN}")


def _truth(word: str, value: str) -> bool:
    if value not in _TRUTH:
        raise _wrong(word, "is true or false")
    return _TRUTH[value]


def _network(word: str, value: str) -> str:
    import ipaddress

    try:
        network = ipaddress.IPv4Network(value)
        network[CONTAINER]
    except (ValueError, IndexError) as error:
        raise _wrong(word, "is a network with room for address 100, such as 10.0.2.0/24") from error
    return str(network)


def _wrong(word: str, text: str) -> InvalidNetwork:
    return InvalidNetwork(f"--network slirp4netns: {word} {text}")


def arguments(options: SlirpOptions, ready: int, socket: str) -> list[str]:
    """Return the words before the network namespace's path and the name of its interface.

    ready: descriptor to which it writes when it works. socket: path of its API, "" for none.
    """
    words = [f"--mtu={options.mtu}", f"--cidr={options.cidr}"]
    words += [] if options.allow_host_loopback else ["--disable-host-loopback"]
    words += ["--enable-sandbox", "--enable-seccomp"]
    words += ["--enable-ipv6"] if options.enable_ipv6 else []
    if options.outbound_addr:
        words.append(f"--outbound-addr={options.outbound_addr}")
    if options.outbound_addr6:
        words.append(f"--outbound-addr6={options.outbound_addr6}")
    words += [f"--api-socket={socket}"] if socket else []
    return [*words, "-c", "-r", str(ready), "--netns-type=path"]


def requests(ports: "tuple[Published, ...]") -> list[tuple[str, str]]:
    """Return what to ask of the API, and of which port. Raises InvalidNetwork."""
    found = []
    for port in ports:
        if ":" in port.address:
            raise InvalidNetwork(
                f"publish {port}: slirp4netns publishes on IPv4 addresses only",
                hint="--network pasta can",
            )
        for offset in range(port.count):
            host, inside = port.host + offset, port.inside + offset
            text = (
                f'{{"execute":"add_hostfwd","arguments":{{"proto":"{port.protocol}",'
                f'"host_addr":"{port.address or "0.0.0.0"}","host_port":{host},'
                f'"guest_port":{inside}}}}}'
            )
            found.append((text, str(replace(port, host=host, count=1))))
    return found
