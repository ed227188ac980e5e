"""Ports of the host that lead into a container: what `-p` says, and whether they are free.

Source: docker's reference of `run`, "--publish": [ip:][host]:container[-end][/protocol].
"""

import _socket as socket  # the module around it takes 5 ms to import
import ipaddress
import os
import re

from runtime.errors import InvalidNetwork, NetworkFailed
from values.classes import dataclass, replace

PROTOCOLS = ("tcp", "udp")
_LARGEST = 65535
_WORD = re.compile(r"(?:(?P<front>.*):)?(?P<inside>[0-9-]+)(?:/(?P<protocol>\w+))?", re.ASCII)
_PRIVILEGED = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


@dataclass(frozen=True, slots=True)
class Published:
    """Ports of the host that lead to as many ports inside.

    address: of the host, "" for all of them. host: the first port there, 0 for any that is free,
    up to `host_last`. inside: the first port of the container. count: how many.
    """

    host: int
    inside: int
    count: int = 1
    protocol: str = "tcp"
    address: str = ""
    host_last: int = 0

    def __str__(self) -> str:
        where = f"[{self.address}]" if ":" in self.address else self.address
        return f"{where or '0.0.0.0'}:{_span(self.host, self.count)}/{self.protocol}"


def _span(first: int, count: int) -> str:
    return f"{first}-{first + count - 1}" if count > 1 else str(first)


def parse_published(word: str) -> Published:
    """Return what `-p WORD` publishes. Raises InvalidNetwork."""
    match = _WORD.fullmatch(word)
    if match is None:
        raise _invalid(word, "as in 8080:80, 127.0.0.1:8080:80/tcp or 8000-8009:9000-9009")
    protocol = (match["protocol"] or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise _invalid(word, f"there is {' and '.join(PROTOCOLS)}, and no {protocol}")
    address, _, outside = (match["front"] or "").rpartition(":")
    first, last = _range(match["inside"], word)
    found = Published(0, first, last - first + 1, protocol, _address(address, word))
    if not outside:
        return found
    host, host_last = _range(outside, word)
    if host_last - host == last - first:
        return replace(found, host=host)
    if first != last:
        raise _invalid(word, "the two ranges are of different lengths")
    return replace(found, host=host, host_last=host_last)


def _range(text: str, word: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", text, re.ASCII)
    if match is None:
        raise _invalid(word, f"{text!r} is no port")
    first, last = int(match[1]), int(match[2] or match[1])
    if not 0 < first <= last <= _LARGEST:
        raise _invalid(word, f"ports go from 1 to {_LARGEST}, a range upwards")
    return first, last


def _address(text: str, word: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not bare:
        return ""
    try:
        address = ipaddress.ip_address(bare)
    except ValueError as error:
        raise _invalid(word, f"{text} is no address") from error
    return "" if address == ipaddress.ip_address("0.0.0.0") else str(address)


def _invalid(word: str, hint: str) -> InvalidNetwork:
    return InvalidNetwork(f"-p {word}: no port mapping", hint=hint)


def settled(ports: tuple[Published, ...]) -> tuple[Published, ...]:
    """Return the ports with a free one wherever any will do.

    All are tried: what cannot be had is known before anything starts. Raises NetworkFailed.
    """
    held: list[socket.socket] = []
    try:
        return tuple(_settled(port, held) for port in ports)
    finally:
        for sock in held:
            sock.close()


def _settled(port: Published, held: list[socket.socket]) -> Published:
    if port.host_last:
        for number in range(port.host, port.host_last + 1):
            try:
                held.append(_bound(port, number))
            except OSError:
                continue
            return replace(port, host=number, host_last=0)
        raise NetworkFailed(f"publish {port.host}-{port.host_last}: none of these ports is free")
    if port.host == 0:
        found = [_free(port, held) for _ in range(port.count)]
        if found != list(range(found[0], found[0] + port.count)):
            raise NetworkFailed(
                f"publish {port.count} ports: no such range is free by chance",
                hint="name the ports of the host: -p FIRST-LAST:FIRST-LAST",
            )
        return replace(port, host=found[0])
    for number in range(port.host, port.host + port.count):
        try:
            held.append(_bound(port, number))
        except OSError as error:
            raise _taken(replace(port, host=number, count=1), error) from error
    return port


def _free(port: Published, held: list[socket.socket]) -> int:
    held.append(_bound(port, 0))
    return int(held[-1].getsockname()[1])


def _bound(port: Published, number: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in port.address else socket.AF_INET
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    sock = socket.socket(family, kind)
    try:
        if port.protocol == "tcp":
            # As the helpers do: what only lingers after a connection is free.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((port.address, number))
    except BaseException:
        sock.close()
        raise
    return sock


def _taken(port: Published, error: OSError) -> NetworkFailed:
    hint = None
    if isinstance(error, PermissionError):
        with open(_PRIVILEGED, encoding="ascii") as file:
            hint = (
                f"ports below {file.read().strip()} are root's: choose a higher one, "
                f"or as root: sysctl net.ipv4.ip_unprivileged_port_start={port.host}"
            )
    return NetworkFailed(f"publish {port}: {os.strerror(error.errno or 0).lower()}", hint=hint)
