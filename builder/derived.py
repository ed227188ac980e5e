"""Files of derived caches: trees, digests, memos, all of which can be made again.

Nobody waits until they are on the disk, so after a power cut one may hold anything. Each begins
with the digest of the rest: what is not whole is not there.
"""

import os

from store.digest import digest_of

_DIGEST_BYTES = 71  # sha256: and 64 digits


def read(path: str) -> bytes | None:
    """Return what was written to `path`, None where nothing is or not all of it."""
    try:
        with open(path, "rb", buffering=0) as file:
            found = file.read()
    except OSError:
        return None
    digest, data = found[:_DIGEST_BYTES], found[_DIGEST_BYTES:]
    return data if digest == digest_of(data).encode() else None


def write(path: str, data: bytes) -> bool:
    """Replace the file `path` by `data`, its folder made; return whether that succeeded.

    Two that write the same at the same time may spoil it for both: then it is not whole. The
    name on the way is one and the same, so that killed writers leave no more than one file.
    """
    temporary = f"{path}.tmp"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "wb", buffering=0) as file:
            if file.write(b"".join((digest_of(data).encode(), data))) != len(data) + _DIGEST_BYTES:
                return False  # a full disk; what is not whole is not read
        os.replace(temporary, path)
    except OSError:
        return False
    return True
