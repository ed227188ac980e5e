"""Ports as EXPOSE is given them: `[ip:][host:]port[-end][/protocol]`.

Pure. The address and the port of the host are checked and dropped, as BuildKit does it.
Source: Dockerfile reference, "EXPOSE"; BuildKit's parser for what it leaves open.
"""

import ipaddress
import re

_PROTOCOLS = ("tcp", "udp", "sctp")
_LARGEST = 65535


def exposed_ports(word: str) -> list[str]:
    """Return `8000-8002/tcp` as its single ports, each with its protocol. Raises ValueError."""
    front, colon, published = word.rpartition(":")
    port, _, protocol = published.partition("/")
    if not port:
        raise ValueError(f"no port specified: {word}")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    first, last = _range(port, f"invalid containerPort: {word}")
    if colon:
        address, _, host_port = front.rpartition(":")
        _check_address(address)
        if host_port:
            host_first, host_last = _range(host_port, f"invalid hostPort: {word}")
            if last != first and host_last - host_first != last - first:
                raise ValueError(
                    f"invalid ranges specified for container and host Ports: {port} and {host_port}"
                )
    return [f"{number}/{protocol}" for number in range(first, last + 1)]


def _range(text: str, complaint: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", text, re.ASCII)
    if match is None:
        raise ValueError(complaint)
    first, last = int(match[1]), int(match[2] or match[1])
    if max(first, last) > _LARGEST:
        raise ValueError(f"{complaint}: not in 0-65535")
    if last < first:
        raise ValueError(f"{complaint}: the range ends before it begins")
    return first, last


def _check_address(text: str) -> None:
    if not text:
        return
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ipaddress.ip_address(bare)
    except ValueError as error:
        raise ValueError(f"invalid IP address: {text}") from error
