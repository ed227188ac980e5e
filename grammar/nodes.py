"""Matches of the grammar's instructions → nodes of the tree.

One method of `_Nodes` a rule of dockerfile.lark, called by the parser bottom-up. Owns what the
grammar cannot say: flags given twice, values out of range. A node comes out without its place:
parse.py fills in span, text, comments and the bodies of here-documents.
"""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from grammar import ast, flags
from grammar.errors import shown
from grammar.leaves import Flag, Leaves, Misread, Pair, Word
from grammar.lines import heredoc_of

_T = TypeVar("_T")

_NOWHERE = ast.Span(0, 0)
_DURATION = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|[-+]?0")


def callbacks(escape: str, mount: Callable[[str], Sequence[str]]) -> Leaves:
    """Return the parser's callbacks, one method a rule.

    mount: splits the unquoted value of --mount into its fields; raises ValueError.
    """
    return _Nodes(escape, mount)


class _Nodes(Leaves):
    def __init__(self, escape: str, mount: Callable[[str], Sequence[str]]) -> None:
        super().__init__(escape)
        self._mount = mount

    def from_(self, children: Sequence[object]) -> ast.From:
        given = _Flags(children)
        (image,) = _words(children)
        name = children[-1]
        return ast.From(
            span=_NOWHERE,
            text="",
            image=image.text,
            platform=given.text("platform"),
            name=None if name is None else str(name).lower(),
        )

    def run(self, children: Sequence[object]) -> ast.Run:
        given = _Flags(children)
        heredocs: tuple[ast.Heredoc, ...] = ()
        last = children[-1]
        if isinstance(last, Word):
            heredocs = _announced([last])
        return ast.Run(
            span=_NOWHERE,
            text="",
            command=_command(last),
            heredocs=heredocs,
            mounts=tuple(self._mount_flag(flag) for flag in given.all("mount")),
            network=given.one_of("network", ("default", "none", "host")),
            security=given.one_of("security", ("sandbox", "insecure")),
            devices=given.texts("device"),
        )

    def copy(self, children: Sequence[object]) -> ast.Copy:
        given = _Flags(children)
        sources, heredocs, destination = _sources(children, "COPY")
        return ast.Copy(
            span=_NOWHERE,
            text="",
            sources=sources,
            destination=destination,
            heredocs=heredocs,
            from_=given.text("from"),
            chown=given.text("chown"),
            chmod=given.text("chmod"),
            link=given.switch("link") or False,
            parents=given.switch("parents") or False,
            exclude=given.texts("exclude"),
        )

    def add(self, children: Sequence[object]) -> ast.Add:
        given = _Flags(children)
        sources, heredocs, destination = _sources(children, "ADD")
        return ast.Add(
            span=_NOWHERE,
            text="",
            sources=sources,
            destination=destination,
            heredocs=heredocs,
            chown=given.text("chown"),
            chmod=given.text("chmod"),
            link=given.switch("link") or False,
            exclude=given.texts("exclude"),
            checksum=given.text("checksum"),
            keep_git_dir=given.switch("keep-git-dir"),
            unpack=given.switch("unpack"),
        )

    def env(self, children: Sequence[object]) -> ast.Env:
        pairs, legacy = _assignments(children, "ENV")
        return ast.Env(span=_NOWHERE, text="", pairs=pairs, legacy=legacy)

    def label(self, children: Sequence[object]) -> ast.Label:
        pairs, legacy = _assignments(children, "LABEL")
        return ast.Label(span=_NOWHERE, text="", pairs=pairs, legacy=legacy)

    def arg(self, children: Sequence[object]) -> ast.Arg:
        pairs = _pairs(children, "ARG")
        return ast.Arg(span=_NOWHERE, text="", pairs=tuple((p.key, p.value) for p in pairs))

    def workdir(self, children: Sequence[object]) -> ast.Workdir:
        return ast.Workdir(span=_NOWHERE, text="", path=_as(str, children[-1]))

    def user(self, children: Sequence[object]) -> ast.User:
        return ast.User(span=_NOWHERE, text="", user=_as(str, children[-1]))

    def stopsignal(self, children: Sequence[object]) -> ast.StopSignal:
        return ast.StopSignal(span=_NOWHERE, text="", signal=_as(str, children[-1]))

    def maintainer(self, children: Sequence[object]) -> ast.Maintainer:
        return ast.Maintainer(span=_NOWHERE, text="", name=_as(str, children[-1]))

    def expose(self, children: Sequence[object]) -> ast.Expose:
        return ast.Expose(span=_NOWHERE, text="", ports=tuple(w.text for w in _words(children)))

    def volume(self, children: Sequence[object]) -> ast.Volume:
        words = _words(children)
        paths = tuple(word.text.strip() for word in words)
        if not paths:
            raise Misread("VOLUME requires at least one argument", _offset_of(children[0]))
        if "" in paths:
            raise Misread("VOLUME path is empty", words[paths.index("")].offset)
        return ast.Volume(span=_NOWHERE, text="", paths=paths)

    def cmd(self, children: Sequence[object]) -> ast.Cmd:
        return ast.Cmd(span=_NOWHERE, text="", command=_command(children[-1]))

    def entrypoint(self, children: Sequence[object]) -> ast.Entrypoint:
        return ast.Entrypoint(span=_NOWHERE, text="", command=_command(children[-1]))

    def shell(self, children: Sequence[object]) -> ast.Shell:
        args = _as(ast.ExecForm, children[-1]).args
        if not args:
            raise Misread("SHELL requires at least one argument", _offset_of(children[0]))
        return ast.Shell(span=_NOWHERE, text="", args=args)

    def healthcheck(self, children: Sequence[object]) -> ast.Healthcheck:
        last = children[-1]
        command = _command(last) if isinstance(last, ast.ShellForm | ast.ExecForm) else None
        if isinstance(command, ast.ExecForm) and not command.args:
            raise Misread("missing command after HEALTHCHECK CMD", _offset_of(children[0]))
        # As BuildKit has it, HEALTHCHECK NONE takes flags and ignores them.
        given = _Flags(children)
        return ast.Healthcheck(
            span=_NOWHERE,
            text="",
            command=command,
            interval=given.duration("interval"),
            timeout=given.duration("timeout"),
            start_period=given.duration("start-period"),
            start_interval=given.duration("start-interval"),
            retries=given.count("retries"),
        )

    def onbuild(self, children: Sequence[object]) -> ast.Onbuild:
        inner = _as(ast.Instruction, children[-1])
        return ast.Onbuild(span=_NOWHERE, text="", instruction=inner, trigger="")

    def _mount_flag(self, flag: Flag) -> ast.MountFlag:
        try:
            fields = self._mount(flag.value or "")
        except ValueError as error:
            raise Misread(f"--mount is no list of key=value: {error}", flag.offset) from error
        return ast.MountFlag(tuple(_mount_option(field, flag.offset) for field in fields))


class _Flags:
    """The flags among an instruction's children, none given twice that may not be."""

    def __init__(self, children: Sequence[object]) -> None:
        self._given: dict[str, list[Flag]] = {}
        for flag in children:
            if isinstance(flag, Flag):
                if flag.name in self._given and flag.name not in flags.REPEATABLE:
                    raise Misread(f"duplicate flag --{flag.name}", flag.offset)
                self._given.setdefault(flag.name, []).append(flag)

    def all(self, name: str) -> list[Flag]:
        return self._given.get(name, [])

    def text(self, name: str) -> str | None:
        found = self.all(name)
        return found[0].value if found else None

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(flag.value or "" for flag in self.all(name))

    def switch(self, name: str) -> bool | None:
        found = self.all(name)
        return None if not found else (found[0].value or "true").lower() == "true"

    def one_of(self, name: str, allowed: Sequence[str]) -> str | None:
        found = self.text(name)
        if found is not None and found not in allowed:
            choice = ", ".join(allowed[:-1]) + f" or {allowed[-1]}"
            message = f"--{name} is {choice}, not {shown(found)}"
            raise Misread(message, self.all(name)[0].offset, flags.did_you_mean(found, allowed))
        return found

    def duration(self, name: str) -> str | None:
        found = self.text(name)
        if found and not _DURATION.fullmatch(found):
            message = f"--{name} is no duration: {shown(found)}"
            raise Misread(message, self.all(name)[0].offset, "write it like 30s or 1m30s")
        return found or None

    def count(self, name: str) -> str | None:
        found = self.text(name)
        if found and not re.fullmatch(r"\+?[0-9]{1,10}", found):
            message = f"--{name} is no number from 0: {shown(found)}"
            raise Misread(message, self.all(name)[0].offset)
        return found or None


def _mount_option(field: str, offset: int) -> tuple[str, str | None]:
    key, equals, value = field.partition("=")
    name = key.lower()
    if name not in flags.ALL_MOUNT_KEYS:
        hint = flags.did_you_mean(name, flags.ALL_MOUNT_KEYS)
        raise Misread(f"--mount has no key {shown(key)}", offset, hint)
    if not equals and name not in flags.MOUNT_SWITCHES:
        raise Misread(f"--mount key {name} needs a value", offset, f"write {name}=…")
    return name, value if equals else None


def _sources(
    children: Sequence[object], instruction: str
) -> tuple[tuple[str, ...], tuple[ast.Heredoc, ...], str]:
    words = _words(children)
    if len(words) < 2:
        raise Misread(
            f"{instruction} requires at least two arguments",
            _offset_of(children[0]),
            f"{instruction} source… destination",
        )
    *sources, destination = words
    if destination.heredoc:
        raise Misread(f"{instruction} destination is a heredoc", destination.offset)
    return (
        tuple(word.text for word in sources if not word.heredoc),
        _announced([word for word in sources if word.heredoc]),
        destination.text,
    )


def _announced(words: Sequence[Word]) -> tuple[ast.Heredoc, ...]:
    found = []
    for word in words:
        heredoc = heredoc_of(word.text)
        if heredoc is None:
            raise Misread(f"bad heredoc delimiter {shown(word.text)}", word.offset)
        found.append(heredoc)
    return tuple(found)


def _assignments(
    children: Sequence[object], instruction: str
) -> tuple[tuple[tuple[str, str], ...], bool]:
    pairs = _pairs(children, instruction)
    return tuple((pair.key, pair.value or "") for pair in pairs), pairs[0].legacy


def _pairs(children: Sequence[object], instruction: str) -> list[Pair]:
    pairs = [child for child in children if isinstance(child, Pair)]
    for pair in pairs:
        if not pair.key:
            raise Misread(f"{instruction} name is empty", pair.offset)
    return pairs


def _words(children: Sequence[object]) -> list[Word]:
    return [word for child in children if isinstance(child, list) for word in child]


def _command(last: object) -> ast.Command:
    """Return the command that is an instruction's last child; without one it is an empty text."""
    return last if isinstance(last, ast.ShellForm | ast.ExecForm) else ast.ShellForm("")


def _as(kind: type[_T], value: object) -> _T:
    assert isinstance(value, kind), f"the grammar gave {value!r} for a {kind.__name__}"
    return value


def _offset_of(child: object) -> int:
    return getattr(child, "start_pos", 0)
