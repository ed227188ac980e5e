"""The command line of pasta. Source: pasta(1), and what podman gives it by default."""

from runtime.errors import InvalidNetwork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.network.ports import Published

# Inside, DNS queries to it are answered by the host's own resolver; podman's choice.
FORWARDER = "169.254.1.1"
# Inside, it is the host, where pasta is new enough (2024-08) to give it an address.
HOST_ADDRESS = "169.254.1.2"
FIRST_WITH_HOST_ADDRESS = "2024-08-21"

_FLAG_WORDS = """
-4 -6 --config-net --dhcp-dns --dhcp-search --freebind --host-lo-to-ns-lo --ipv4-only --ipv6-only
--map-gw --no-copy-addrs --no-copy-routes --no-dhcp --no-dhcp-dns --no-dhcp-search --no-dhcpv6
--no-icmp --no-map-gw --no-ndp --no-ra --no-splice --no-tcp --no-udp
"""
_VALUE_WORDS = """
-D -H -I -M -S -T -U -a -g -i -m -n -o -t -u --address --dns --dns-forward --dns-host --fqdn
--gateway --hostname --interface --mac-addr --map-guest-addr --map-host-loopback --mtu --netmask
--ns-ifname --ns-mac-addr --outbound --outbound-if4 --outbound-if6 --search --tcp-ns --tcp-ports
--udp-ns --udp-ports
"""
_FLAGS, _WITH_VALUE = frozenset(_FLAG_WORDS.split()), frozenset(_VALUE_WORDS.split())
_DIRECTIONS = {
    ("-t", "--tcp-ports"): "-t",
    ("-u", "--udp-ports"): "-u",
    ("-T", "--tcp-ns"): "-T",
    ("-U", "--udp-ns"): "-U",
}


def checked(options: tuple[str, ...]) -> dict[str, str]:
    """Return options as name to value, "" for those that have none; the last of a name counts.

    Raises InvalidNetwork for what pasta does not know, and for what is ours to decide.
    """
    found: dict[str, str] = {}
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        if name in _FLAGS and not equals:
            found[name] = ""
        elif name in _WITH_VALUE:
            value = value if equals else next(words, "")
            if not value or value.startswith("--"):
                raise InvalidNetwork(f"--network pasta: option {name} needs a value")
            found[name] = value
        else:
            raise InvalidNetwork(
                f"--network pasta: option {word!r}: not supported",
                hint="options are pasta's own words, as in pasta:--mtu,1500,-T,5432",
            )
    return found


def given(options: dict[str, str], *names: str) -> str | None:
    """Return the value of the first of `names` that was given."""
    return next((options[name] for name in names if name in options), None)


def arguments(
    options: tuple[str, ...], ports: "tuple[Published, ...]", *, host: bool, privileged: bool
) -> list[list[str]]:
    """Return command lines without the program, the best first; a later one is for an older pasta.

    host: there has to be an address for the host. privileged: pasta takes us for the host's root.
    Raises InvalidNetwork.
    """
    known = checked(options)
    words = [word for word in options if word not in ("--map-gw", "--no-map-gw", "--config-net")]
    words = ["--quiet", "--config-net", *words]
    published = {f"-{port.protocol[0]}" for port in ports}
    for port in ports:
        words += [f"-{port.protocol[0]}", _forwarded(port)]
    for names, flag in _DIRECTIONS.items():
        if given(known, *names) is None and flag not in published:
            words += [flag, "none"]
    if "--dns-forward" not in known:
        words += ["--dns-forward", FORWARDER]
    if privileged:
        words += ["--runas", "0"]
    if "--map-gw" in known or host_of(known, "x"):
        words += [] if "--map-gw" in known else ["--no-map-gw"]
        return [words]
    if host:
        return [[*words, "--no-map-gw", "--map-guest-addr", HOST_ADDRESS], words]
    return [[*words, "--no-map-gw"]]


def host_of(options: dict[str, str], gateway: str) -> str:
    """Return the host's address inside, by options that give it one, "" where none does."""
    named = given(options, "--map-guest-addr", "--map-host-loopback")
    return named if named and named != "none" else gateway if "--map-gw" in options else ""


def _forwarded(port: "Published") -> str:
    """Return one port specification: `ADDRESS/FIRST-LAST:FIRST-LAST`."""
    address = f"{port.address}/" if port.address else ""
    if port.count == 1:
        return f"{address}{port.host}:{port.inside}"
    last = port.count - 1
    return f"{address}{port.host}-{port.host + last}:{port.inside}-{port.inside + last}"
