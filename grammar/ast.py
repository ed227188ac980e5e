"""The typed tree of a Dockerfile.

Owns the shape of the tree; refuses to know what an instruction does to an image. Words are kept
as written, unexpanded: which of them are expanded, and with what, is decided by whoever lowers
the tree. Source: Dockerfile reference.
"""

from values.classes import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Where in the Dockerfile a node stands: physical lines, from 1, both inclusive."""

    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document: `<<NAME` and its body.

    body: the lines between, each with its newline, as written (`<<-` has its tabs stripped).
    expand: False when any part of the delimiter was quoted.
    written: the lines between with their tabs: what a shell that reads the document itself gets.
    """

    name: str
    body: str
    expand: bool
    strip_tabs: bool
    fd: int | None
    written: str = ""


@dataclass(frozen=True, slots=True)
class ShellForm:
    """A command given as text for the stage's SHELL. `text` is as written, joined lines."""

    text: str


@dataclass(frozen=True, slots=True)
class ExecForm:
    """A command given as a JSON array of strings; it may be empty."""

    args: tuple[str, ...]


Command = ShellForm | ExecForm


@dataclass(frozen=True, slots=True)
class Remark:
    """What a comment `# pybuild: …` says, and where it begins: line and column, from 1."""

    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """How a step is to be done, from `# pybuild:` comments; what is 0 or False is not given.

    retry: how often a failed step is tried again. delay_ms: how long before that. timeout_ms: of
    each try. memory_bytes, cpus: what its processes may take. no_cache: it runs in every build.
    ttl_ms: how old a result may be. secret_key: values of secrets are part of the cache key.
    """

    retry: int = 0
    delay_ms: int = 0
    timeout_ms: int = 0
    memory_bytes: int = 0
    cpus: float = 0.0
    no_cache: bool = False
    ttl_ms: int = 0
    secret_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What all instructions share.

    text: the whole instruction as written with its continuations joined by one space run as the
    Dockerfile reference joins them, without comments: what progress output and errors show.
    comments: the comment lines above it, without `#` and outer blanks, directives left out; an
    empty comment starts anew, a blank line does not. Those with policies are not among them.
    """

    span: Span
    text: str
    comments: tuple[str, ...] = ()
    policies: Policies | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """FROM [--platform=platform] image [AS name]."""

    image: str
    platform: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class MountFlag:
    """One `--mount=` of RUN: its keys (lower-cased) and raw values in order; `ro` has None."""

    options: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """RUN [flags] command. A RUN made only of a heredoc has ShellForm("") and that heredoc."""

    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[MountFlag, ...] = ()
    network: str | None = None
    security: str | None = None
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """COPY [flags] source… destination. A heredoc source appears in `heredocs` only."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    from_: str | None = None
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Instruction):
    """ADD [flags] source… destination. `unpack` and `keep_git_dir` are None when not given."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str | None = None
    keep_git_dir: bool | None = None
    unpack: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """ENV key=value…; raw words. `legacy`: the form `ENV key rest of line`."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """LABEL key=value…; raw words. `legacy`: the form `LABEL key rest of line`."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """ARG name[=default]…; a default that was not given is None, which is not empty."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    """WORKDIR path."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    """USER user[:group]."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """EXPOSE port…; raw words."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    """VOLUME path…."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    """CMD command."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    """ENTRYPOINT command."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    """SHELL ["executable", "parameters"]."""

    args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """HEALTHCHECK NONE (`command` is None) | [flags] CMD command. Durations as written."""

    command: Command | None
    interval: str | None = None
    timeout: str | None = None
    start_period: str | None = None
    start_interval: str | None = None
    retries: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    """STOPSIGNAL signal."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    """MAINTAINER name (deprecated)."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """ONBUILD instruction. `trigger`: its raw text, heredoc bodies re-attached, for config."""

    instruction: Instruction
    trigger: str


@dataclass(frozen=True, slots=True)
class Directives:
    """Parser directives at the top of the file; `escape` is one character."""

    syntax: str | None = None
    escape: str = "\\"
    check: str | None = None


@dataclass(frozen=True, slots=True)
class Warning_:
    """Something that the parser tolerates but a person may want to know: a lint rule's name."""

    rule: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile: `name` is what errors call it."""

    name: str
    directives: Directives
    instructions: tuple[Instruction, ...]
    warnings: tuple[Warning_, ...] = ()
