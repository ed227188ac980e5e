"""Compiled seccomp programs, kept on disk: compiling one takes longer than starting a container.

The compiler is imported where there is no kept program only.
"""

import os
import stat

from runtime import jsontext
from store.sha256 import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# Part of every cache key: raise it with any change of seccomp_policy.py, seccomp.py, bpf.py or
# syscalls.py that changes a program.
COMPILER_VERSION = 1
_LARGEST = 8 * 4096  # bytes of a program: the kernel's limit


def cached_filter(
    cache_dir: "str | os.PathLike[str]",
    profile: "Mapping[str, Any]",
    capabilities: "Sequence[str]",
) -> bytes:
    """Return `filter_for(profile, capabilities)` of this machine, kept below `cache_dir`.

    A kept program counts only if nobody else could have written it and its digest is right; the
    cache is never needed: where it cannot be read or written, the program is compiled.
    Raises ProfileError as filter_for does.
    """
    host = os.uname()
    ingredients = [COMPILER_VERSION, host.machine, host.release, sorted(set(capabilities)), profile]
    key = sha256(jsontext.dumps(ingredients)).digest()
    directory = os.path.join(cache_dir, "seccomp")
    path = os.path.join(directory, key.hex())
    program = _read_kept(path, key)
    if program is None:
        from runtime.linux.seccomp import filter_for

        program = filter_for(profile, capabilities, host.machine, kernel=host.release)
        _keep(directory, path, _seal(key, program) + program)
    return program


def _seal(key: bytes, program: bytes) -> bytes:
    """Return the digest that stands before a kept program; it also says under which key."""
    return sha256(key + program).digest()


def _read_kept(path: str, key: bytes) -> bytes | None:
    # O_NONBLOCK: a fifo that somebody put there must not hang us.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        ours = status.st_uid == os.geteuid() and not status.st_mode & 0o077
        if not (ours and stat.S_ISREG(status.st_mode)):
            return None
        kept = os.read(fd, 32 + _LARGEST + 1)
    finally:
        os.close(fd)
    seal, program = kept[:32], kept[32:]
    return program if program and seal == _seal(key, program) else None


def _keep(directory: str, path: str, content: bytes) -> None:
    """Put `content` at `path` in one step; on failure there is just no kept program."""
    temporary = f"{path}.{os.urandom(8).hex()}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
    except OSError:
        return
