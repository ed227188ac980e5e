"""Network devices over rtnetlink: found, moved to another namespace, given addresses.

Source: rtnetlink(7), include/uapi/linux/{netlink,rtnetlink,if_link,if_addr}.h.
"""

import _socket
import errno
import os
import struct

_NETLINK_ROUTE = 0
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR = 16, 18, 20, 22
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _EXCL, _CREATE, _DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
_IFNAME, _NET_NS_FD = 3, 28
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_PERMANENT, _UNIVERSE, _UP = 0x80, 0, 1
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_CODE = struct.Struct("=i")

# family, prefix length, local address, peer's address
Address = tuple[int, int, bytes, bytes]


class Routes:
    """A socket to the rtnetlink of the network namespace that we are in. A context manager."""

    def __init__(self) -> None:
        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _NETLINK_ROUTE)
        self._number = 0

    def __enter__(self) -> "Routes":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def index_of(self, name: str) -> int:
        """Return the number of the device `name`. Raises OSError (ENODEV)."""
        (answer,) = self._ask(_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + _text(_IFNAME, name))
        index: int = _LINK.unpack_from(answer)[2]
        return index

    def set_up(self, index: int, up: bool) -> None:
        """Switch a device on or off."""
        self._ask(_NEWLINK, _ACK, _LINK.pack(0, 0, index, _UP if up else 0, _UP))

    def move(self, index: int, namespace: int, name: str) -> None:
        """Move a device into the network namespace `namespace`, where it is called `name`."""
        fields = _text(_IFNAME, name) + _attribute(_NET_NS_FD, struct.pack("=I", namespace))
        self._ask(_NEWLINK, _ACK, _LINK.pack(0, 0, index, 0, 0) + fields)

    def addresses(self, index: int) -> "list[Address]":
        """Return the addresses of a device that are meant to stay and known everywhere."""
        found = []
        for answer in self._ask(_GETADDR, _DUMP, _ADDRESS.pack(0, 0, 0, 0, 0)):
            family, prefix, short_flags, scope, of = _ADDRESS.unpack_from(answer)
            fields = _attributes(answer[_ADDRESS.size :])
            flags = fields.get(_IFA_FLAGS)
            number = struct.unpack("=I", flags)[0] if flags else short_flags
            if of != index or scope != _UNIVERSE or not number & _PERMANENT:
                continue
            peer = fields.get(_IFA_ADDRESS, b"")
            found.append((family, prefix, fields.get(_IFA_LOCAL, peer), peer))
        return found

    def add_address(self, index: int, address: Address) -> None:
        """Give a device an address."""
        family, prefix, local, peer = address
        fields = _attribute(_IFA_LOCAL, local) + _attribute(_IFA_ADDRESS, peer)
        body = _ADDRESS.pack(family, prefix, 0, _UNIVERSE, index) + fields
        self._ask(_NEWADDR, _ACK | _CREATE | _EXCL, body)

    def _ask(self, kind: int, flags: int, body: bytes) -> "list[bytes]":
        """Send a request; return the bodies of its answers. Raises OSError."""
        self._number += 1
        length = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(length, kind, flags | _REQUEST, self._number, 0) + body)
        answers: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 16)
            while data:
                length, answer, _, number, _ = _HEADER.unpack_from(data)
                body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if number != self._number:
                    continue
                if answer == _ERROR:
                    _raise(-_CODE.unpack_from(body)[0])
                if answer in (_ERROR, _DONE):
                    return answers
                answers.append(body)
                if not flags & _DUMP:
                    return answers


def _raise(code: int) -> None:
    if code:
        raise OSError(code, os.strerror(code))


def _attribute(kind: int, data: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + bytes(-length % 4)


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, os.fsencode(text) + b"\0")


def _attributes(data: bytes) -> "dict[int, bytes]":
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
    return found
