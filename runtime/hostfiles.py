"""The files of a container that depend on its host: resolv.conf, hosts, hostname. Pure.

They are generated for each container and shown by mounts, so they never land in a layer.
"""

from collections.abc import Sequence

# What docker and BuildKit fall back to where a host has only resolvers of its own.
_PUBLIC = ("8.8.8.8", "8.8.4.4")
# Who says this instead of an address means the host, wherever that is.
HOST_GATEWAY = "host-gateway"
LOOPBACK = "127.0.0.1"
_LOCALHOST = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


def _is_loopback(address: str) -> bool:
    if ":" not in address:
        return address.startswith("127.")
    import ipaddress  # only for those who write IPv6: it takes as long as two mounts

    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _name_servers(text: str) -> list[str]:
    rows = [line.split() for line in text.splitlines()]
    return [row[1] for row in rows if len(row) > 1 and row[0] == "nameserver"]


def resolv_conf(
    host: str,
    upstream: str,
    *,
    own_network: bool,
    servers: Sequence[str] = (),
    forwarder: str = "",
) -> str:
    """Return the container's resolv.conf.

    host: the host's. upstream: what stands behind the host's own resolver (systemd-resolved's
    list), or empty. own_network: the container cannot reach the host's loopback, so resolvers
    there are replaced. servers: takes the place of whatever the host has. forwarder: passes what it
    is asked on to the host's resolvers, wherever they are; it is the first where there are any of
    its family.
    """
    found = list(servers) or _name_servers(host)
    if own_network and not servers:
        # It asks servers that are reached as it is itself.
        asks = any((":" in server) == (":" in forwarder) for server in found)
        first = [forwarder] if forwarder and asks else []
        found = [*first, *(server for server in found if not _is_loopback(server))]
        if not found:
            found = [s for s in _name_servers(upstream) if not _is_loopback(s)] or list(_PUBLIC)
    elif not found:
        found = _name_servers(upstream)
    if found == _name_servers(host):
        return host
    source = host if _name_servers(host) else upstream
    kept = [line for line in source.splitlines() if line.split()[:1] not in (["nameserver"],)]
    lines = [line for line in kept if line.strip() and line.lstrip()[0] not in "#;"]
    return "".join(f"{line}\n" for line in [*lines, *(f"nameserver {s}" for s in found)])


def hosts(hostname: str, address: str, extra: Sequence[tuple[str, str]]) -> str:
    """Return the container's hosts file.

    address: the container's own, by which it finds itself under `hostname`; empty where it has
    none: then the name is localhost's.
    extra: (name, address) pairs.
    """
    text = _LOCALHOST
    if hostname:
        text += f"{address or '127.0.0.1'}\t{hostname}\n"
    return text + "".join(f"{ip}\t{name}\n" for name, ip in extra)


def with_gateway(extra: Sequence[tuple[str, str]], address: str) -> tuple[tuple[str, str], ...]:
    """Return (name, address) pairs with the host's address in the place of `host-gateway`."""
    return tuple((name, address if ip == HOST_GATEWAY else ip) for name, ip in extra)
