"""sha256 of a few bytes, without the 2 ms that importing hashlib, and OpenSSL with it, takes.

For more than a few bytes OpenSSL is the faster one.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash

_FEW_BYTES = 1 << 16


def sha256(data: bytes) -> "_Hash":
    """Return the finished hash of `data`, as hashlib's."""
    if len(data) <= _FEW_BYTES and "hashlib" not in sys.modules:
        try:
            import _sha256 as builtin  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            pass  # another Python
        else:
            found: _Hash = builtin.sha256(data)
            return found
    import hashlib

    return hashlib.sha256(data)
