"""The members of a zip archive that passes by: what is deflated, without the directory at its end.

Owns the local headers. Members that are stored lie in the archive as they are; those that are
encrypted or compressed in another way are passed over. Source: APPNOTE.TXT, 4.3.7 to 4.3.9.
"""

import struct
from collections.abc import Iterator

from store.compression import Inflation

LOCAL = b"PK\x03\x04"
_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED, _SIZES_FOLLOW = 1, 8
_DEFLATED = 8


class ZipStream:
    """A zip archive that is pushed in, piece by piece."""

    def __init__(self) -> None:
        self._held = b""
        self._passed_over_bytes = 0
        self._member: Inflation | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield plain bytes of the members that are deflated. Raises BadArchive."""
        data = self._held + chunk
        self._held = b""
        while data:
            if self._passed_over_bytes:
                gone = min(self._passed_over_bytes, len(data))
                self._passed_over_bytes -= gone
                data = data[gone:]
            elif self._member is not None:
                yield from self._member.feed(data)
                if self._member.is_cut_off:
                    return
                data, self._member = self._member.rest, None
            else:
                data = self._next(data)
                if self._held:
                    return

    def _next(self, data: bytes) -> bytes:
        """Look for the next member; return what follows its header, or hold what is too little."""
        start = data.find(LOCAL)
        if start < 0:
            self._held = data[-len(LOCAL) + 1 :]
            return b""
        if len(data) - start < _HEADER.size:
            self._held = data[start:]
            return b""
        _, _, flags, method, _, _, _, packed, _, name, extra = _HEADER.unpack_from(data, start)
        rest = data[start + _HEADER.size :]
        self._passed_over_bytes = name + extra
        if method == _DEFLATED and not flags & _ENCRYPTED:
            self._member = Inflation("deflate", "member of a zip archive", is_single=True)
        elif not flags & _SIZES_FOLLOW:
            self._passed_over_bytes += packed
        return rest
