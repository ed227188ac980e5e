"""A store's salt: random bytes that never leave it, for digests that nobody else can guess at."""

import hashlib
import os

from store.errors import Corrupt, disk_errors
from store.folder import Folder, write_durably

_BYTES = 32


def salted_digest(folder: Folder, name: str, value: bytes) -> str:
    """Return a digest of a value that only this store can make: `blake2b:` and hex digits.

    name: what the value is called; two of the same value under two names cannot be told to be.
    Raises Corrupt, DiskFull.
    """
    data = b"%b\0%b" % (name.encode("utf-8", "surrogateescape"), value)
    return f"blake2b:{hashlib.blake2b(data, key=_salt(folder), digest_size=_BYTES).hexdigest()}"


def _salt(folder: Folder) -> bytes:
    """Return the salt; the first who asks makes it."""
    path = folder.path("salt")
    known = _read(path)
    if known is None:
        with folder.lock("salt"), disk_errors("write salt", path):
            known = _read(path)
            if known is None:
                known = os.urandom(_BYTES)
                write_durably(folder, path, known)
    return known


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    if len(data) != _BYTES:
        raise Corrupt(f"salt {path}: damaged", hint="remove the file; keys of secrets change then")
    return data
