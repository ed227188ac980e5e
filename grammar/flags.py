"""The flags of each instruction and the keys of each mount type, by name.

The grammar decides what parses; these tables name what a wrong word could have meant. A test
holds the two together. Source: Dockerfile reference.
"""

from collections.abc import Iterable
from difflib import get_close_matches

INSTRUCTIONS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
    "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip

FLAGS: dict[str, tuple[str, ...]] = {
    "ADD": (
        "chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack",
    ),
    "COPY": ("from", "chown", "chmod", "link", "parents", "exclude"),
    "FROM": ("platform",),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
    "RUN": ("mount", "network", "security", "device"),
}  # fmt: skip

# Flags that need no value.
SWITCHES = frozenset({"link", "parents", "keep-git-dir", "unpack"})

REPEATABLE = frozenset({"mount", "device", "exclude"})

_TARGET = ("target", "dst", "destination")
_WRITABLE = ("ro", "readonly", "rw", "readwrite")
_OWNER = ("mode", "uid", "gid")

MOUNT_KEYS: dict[str, tuple[str, ...]] = {
    "bind": ("type", *_TARGET, "source", "src", "from", *_WRITABLE),
    "cache": ("type", "id", *_TARGET, "source", "src", "from", "sharing", *_WRITABLE, *_OWNER),
    "tmpfs": ("type", *_TARGET, "size", *_WRITABLE),
    "secret": ("type", "id", *_TARGET, "source", "src", "env", "required", *_OWNER),
    "ssh": ("type", "id", *_TARGET, "required", *_OWNER),
}

# Keys that may stand without a value.
MOUNT_SWITCHES = frozenset({*_WRITABLE, "required"})

ALL_MOUNT_KEYS = tuple(dict.fromkeys(key for keys in MOUNT_KEYS.values() for key in keys))


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str | None:
    """Return a hint that names the nearest of `known`, or None if none is near."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {prefix}{near[0]}?" if near else None
