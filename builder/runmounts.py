"""RUN's mounts: what each type is as a value, and how `--mount` becomes one.

Owns the keys of `--mount`, their defaults and what may not stand together. Refuses to know how a
mount is made: that is `ops/mounts`. Source: Dockerfile reference, "RUN --mount"; BuildKit's parser
for what it leaves open. Keys may come in any order. A key that a type has no use for is ignored,
as BuildKit does it, except where it refuses it too.
"""

import posixpath
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NoReturn, cast

from builder.errors import InstructionError
from grammar import ast, flags
from values.classes import dataclass

if TYPE_CHECKING:
    from builder.stage import Stage
    from builder.vertex import VertexID

Sharing = Literal["shared", "private", "locked"]

PIPES = "/dev/pipes"


@dataclass(frozen=True, slots=True)
class BindMount:
    """Files of the context (`input` is None) or of what the vertex's input number `input` made.

    Where it can be written to, what is written is thrown away.
    """

    target: str
    input: int | None
    path: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A directory that outlives the build.

    id: with the namespace before it. input, path: what a new one begins as; input None is empty.
    owner: mode, user and group of a new empty one, None where the Dockerfile says nothing.
    """

    target: str
    id: str
    sharing: Sharing = "shared"
    input: int | None = None
    path: str = "/"
    owner: tuple[int, int, int] | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """An empty file system in memory. size_bytes: 0 is the kernel's default."""

    target: str
    size_bytes: int = 0
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A value that the caller of the build has, as a file, a variable or both.

    target, variable: None where it is not to be shown so.
    """

    id: str
    target: str | None
    variable: str | None
    required: bool
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class SshMount:
    """The socket of a key agent that the caller of the build has."""

    id: str
    target: str
    required: bool
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class ScriptMount:
    """The body of a here-document that is executed itself: it begins with `#!`."""

    target: str
    text: str


RunMount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount | ScriptMount

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp])?i?b?", re.IGNORECASE)
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
# Other spellings of a key.
ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "readonly": "ro",
    "readwrite": "rw",
}
# Keys that are an error where the type has no use for them; others are ignored.
_ONLY = {
    "required": ("secret", "ssh"),
    "size": ("tmpfs",),
    "mode": ("cache", "secret", "ssh"),
    "uid": ("cache", "secret", "ssh"),
    "gid": ("cache", "secret", "ssh"),
    "sharing": ("cache",),
}


class _Options:
    """The options of one `--mount`, by their usual names, expanded; a later one wins."""

    def __init__(self, flag: ast.MountFlag, node: ast.Run, stage: "Stage") -> None:
        self.node = node
        self.stage = stage
        self.values: dict[str, str | None] = {}
        for key, raw in flag.options:
            name = ALIASES.get(key, key)
            if name == "from":
                value = raw
                if re.search(r"\$.", raw or ""):
                    self.refuse(
                        f"variables are not expanded in from: {raw}",
                        "give the image a stage of its own, FROM $IMAGE AS name, and use that",
                    )
            else:
                value = None if raw is None else stage.expand(raw, node)
            if name == "rw":
                name, value = "ro", "false" if self.boolean("rw", value) else "true"
            self.values[name] = value
        self.type = (self.values.get("type") or "bind").lower()
        if self.type not in flags.MOUNT_KEYS:
            self.refuse(
                f'unsupported mount type "{self.type}"',
                flags.did_you_mean(self.type, flags.MOUNT_KEYS),
            )
        for name, types in _ONLY.items():
            if name in self.values and self.type not in types:
                self.refuse(f"{name} is not for mounts of type {self.type}")

    def refuse(self, message: str, hint: str | None = None) -> NoReturn:
        raise InstructionError(self.stage.place(self.node), f"RUN --mount: {message}", hint=hint)

    def text(self, name: str) -> str:
        """Return a value, "" where it is not given."""
        return self.values.get(name) or ""

    def boolean(self, name: str, value: str | None) -> bool:
        """Return what a switch says; alone it says yes."""
        if value is None or value in _TRUE:
            return True
        if value not in _FALSE:
            self.refuse(f'{name} is true or false, not "{value}"')
        return False

    def switch(self, name: str) -> bool:
        """Tell whether a switch is given and on."""
        return name in self.values and self.boolean(name, self.values[name])

    def number(self, name: str, base: int) -> int | None:
        """Return a number of 32 bits, None where it is not given."""
        text = self.values.get(name)
        if text is None:
            return None
        digits = "01234567" if base == 8 else "0123456789"
        if not text or text.strip(digits) or int(text, base) >= 1 << 32:
            kind = "an octal number" if base == 8 else "a number"
            self.refuse(f'{name} is {kind}, not "{text}"')
        return int(text, base)

    def owner(self, mode: int) -> tuple[int, int, int] | None:
        """Return mode, user and group with the defaults filled in, None where none is given."""
        given = (self.number("mode", 8), self.number("uid", 10), self.number("gid", 10))
        if given == (None, None, None):
            return None
        defaults = (mode, 0, 0)
        filled = [was if now is None else now for now, was in zip(given, defaults, strict=True)]
        return filled[0], filled[1], filled[2]

    def target(self, path: str) -> str:
        """Return a mount point as an absolute, clean path."""
        absolute = self.stage.absolute(path).rstrip("/")
        if not absolute:
            self.refuse(f'invalid mount target "{path or "/"}"', "it must be a path below /")
        return absolute


@dataclass(slots=True)
class _Inputs:
    """The vertices that mounts take files from, each once, numbered as the RUN's inputs."""

    root: "Callable[[str], VertexID]"
    found: "list[VertexID]"

    def number(self, name: str) -> int:
        """Return the number of the input that `from=name` means."""
        vertex = self.root(name)
        if vertex not in self.found:
            self.found.append(vertex)
        return 1 + self.found.index(vertex)  # 0 is the root file system


def lower_mounts(
    node: ast.Run, stage: "Stage", root: "Callable[[str], VertexID]"
) -> "tuple[tuple[RunMount, ...], tuple[VertexID, ...]]":
    """Return a RUN's mounts as values, and the vertices that they take files from.

    root: gives the vertex of a `from`. Raises InstructionError.
    """
    inputs = _Inputs(root, [])
    mounts: list[RunMount] = []
    for flag in node.mounts:
        options = _Options(flag, node, stage)
        if options.type == "ssh":
            agents = sum(isinstance(mount, SshMount) for mount in mounts)
            mounts.append(_ssh(options, agents))
        else:
            mounts.append(_LOWER[options.type](options, inputs))
    return tuple(mounts), tuple(inputs.found)


def _source_path(options: _Options) -> str:
    return "/" + posixpath.normpath("/" + options.text("source")).lstrip("/")


def _bind(options: _Options, inputs: _Inputs) -> BindMount:
    name = options.text("from")
    return BindMount(
        target=options.target(options.text("target")),
        input=inputs.number(name) if name else None,
        path=_source_path(options),
        read_only="ro" not in options.values or options.switch("ro"),
    )


def _cache(options: _Options, inputs: _Inputs) -> CacheMount:
    sharing = (options.text("sharing") or "shared").lower()
    if sharing not in ("shared", "private", "locked"):
        options.refuse(f'sharing is shared, private or locked, not "{sharing}"')
    target, name, path = options.text("target"), options.text("from"), _source_path(options)
    owner = options.owner(0o755)
    if path == "/" and owner is not None:
        # Then a new one is empty, whatever `from` names, as BuildKit has it.
        name = ""
    if path != "/" and not name:
        options.refuse(f"source={path} of a cache mount needs from", "it begins empty without it")
    namespace = options.stage.plan.build_args.get("BUILDKIT_CACHE_MOUNT_NS", "")
    identity = options.text("id") or re.sub("^//+", "/", posixpath.normpath(target))
    return CacheMount(
        target=options.target(target),
        id=f"{namespace}/{identity}" if namespace else identity,
        sharing=cast(Sharing, sharing),
        input=inputs.number(name) if name else None,
        path=path,
        owner=owner if path == "/" else None,
        read_only=options.switch("ro"),
    )


def _tmpfs(options: _Options, _inputs: _Inputs) -> TmpfsMount:
    size = options.values.get("size")
    return TmpfsMount(
        target=options.target(options.text("target")),
        size_bytes=0 if size is None else _size_bytes(size, options),
        read_only=options.switch("ro"),
    )


def _size_bytes(text: str, options: _Options) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        options.refuse(f'invalid size "{text}"', "write it like 64m or 1g")
    power = "kmgtp".index(match[2].lower()) + 1 if match[2] else 0
    return int(float(match[1]) * 1024**power)


def _secret(options: _Options, _inputs: _Inputs) -> SecretMount:
    target, source, identity = (options.text(key) for key in ("target", "source", "id"))
    variable = options.values.get("env")
    if options.text("from"):
        options.refuse("a secret has no from")
    if source and identity:
        options.refuse("source and id of a secret are the same: only one can be given")
    name = source or identity or posixpath.basename(target.rstrip("/"))
    if not name:
        options.refuse("a secret needs an id or a target", "as in --mount=type=secret,id=token")
    if variable is not None and not re.fullmatch(r"[^=\0]+", variable):
        options.refuse(f'"{variable}" is no name for a variable')
    if not target and variable is None:
        target = f"/run/secrets/{posixpath.basename(name)}"
    mode, uid, gid = options.owner(0o400) or (0o400, 0, 0)
    return SecretMount(
        id=name,
        target=options.target(target) if target else None,
        variable=variable,
        required=options.switch("required"),
        mode=mode,
        uid=uid,
        gid=gid,
    )


def _ssh(options: _Options, before: int) -> SshMount:
    if options.text("source"):
        options.refuse("an agent has no source")
    mode, uid, gid = options.owner(0o600) or (0o600, 0, 0)
    return SshMount(
        id=options.text("id") or "default",
        target=options.target(options.text("target") or f"/run/buildkit/ssh_agent.{before}"),
        required=options.switch("required"),
        mode=mode,
        uid=uid,
        gid=gid,
    )


_LOWER: dict[str, Callable[[_Options, _Inputs], RunMount]] = {
    "bind": _bind,
    "cache": _cache,
    "tmpfs": _tmpfs,
    "secret": _secret,
}
