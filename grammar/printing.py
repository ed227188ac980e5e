"""A tree → a Dockerfile's text, which parses to the same tree.

Owns how each node is written: one line for each instruction, words in upper case, quotes only where
they are needed. What a tree does not keep is lost: comments inside instructions, continuations.
Only what the nodes' fields say counts; `span` and `text` are not looked at.
"""

import json
import re
from functools import singledispatch

from grammar import ast, policies
from grammar.lines import continuation

_ESCAPES = ("\\", "`")
_BLANK_OR_QUOTE = re.compile("[\\s'\"]")


def to_text(tree: ast.Dockerfile) -> str:
    """Return the text of a Dockerfile, its bytes that are no UTF-8 as surrogate escapes.

    Raises ValueError for a tree that no text parses to, such as one with a newline in a word.
    """
    escape = tree.directives.escape
    lines = [
        f"# {key}={value}"
        for key, value in (
            ("syntax", tree.directives.syntax),
            ("escape", escape if escape != "\\" else None),
            ("check", tree.directives.check),
        )
        if value is not None
    ]
    if tree.instructions and tree.instructions[0].comments:
        lines.append("")  # a comment below is no directive
    for node in tree.instructions:
        lines += [f"# {comment}" for comment in node.comments]
        if node.policies is not None:
            lines.append(f"# pybuild: {policies.to_text(node.policies)}")
        lines.append(instruction_text(node, escape))
    return "".join(f"{line}\n" for line in lines)


def instruction_text(node: ast.Instruction, escape: str = "\\") -> str:
    """Return one instruction, its heredocs below it, without a newline at the end.

    Raises ValueError as `to_text`.
    """
    word = "FROM" if isinstance(node, ast.From) else type(node).__name__.upper()
    if isinstance(node, ast.Onbuild):
        return f"ONBUILD {node.trigger}"
    flags = [_flag(name, value, escape) for name, value in _flags_of(node) if value is not None]
    arguments = _arguments(node)
    if arguments.startswith("--"):
        flags.append("--")
    line = " ".join([word, *flags, arguments])
    if "\n" in line:
        raise ValueError(f"{word} cannot be written: there is a newline in {line!r}")
    if continuation(escape).search(line):
        line += "\v"  # trimmed when it is read, but then the line has been found to end here
    heredocs = node.heredocs if isinstance(node, ast.Run | ast.Copy | ast.Add) else ()
    return line + "".join(f"\n{doc.written}{doc.name}" for doc in heredocs)


def _flag(name: str, value: str | bool, escape: str) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--{name}=false"
    if _BLANK_OR_QUOTE.search(value) or escape in value:
        inside = re.sub(f'["{re.escape(escape)}]', lambda found: escape + found[0], value)
        value = f'"{inside}"'
    return f"--{name}={value}"


@singledispatch
def _flags_of(_node: ast.Instruction) -> list[tuple[str, str | bool | None]]:
    """Return an instruction's flags; None stands for one that is not given."""
    return []


@_flags_of.register
def _(node: ast.From) -> list[tuple[str, str | bool | None]]:
    return [("platform", node.platform)]


@_flags_of.register
def _(node: ast.Run) -> list[tuple[str, str | bool | None]]:
    return [
        *(("mount", _mount(mount)) for mount in node.mounts),
        ("network", node.network),
        ("security", node.security),
        *(("device", device) for device in node.devices),
    ]


@_flags_of.register
def _(node: ast.Copy) -> list[tuple[str, str | bool | None]]:
    return [
        ("from", node.from_),
        ("chown", node.chown),
        ("chmod", node.chmod),
        ("link", node.link or None),
        ("parents", node.parents or None),
        *(("exclude", pattern) for pattern in node.exclude),
    ]


@_flags_of.register
def _(node: ast.Add) -> list[tuple[str, str | bool | None]]:
    return [
        ("chown", node.chown),
        ("chmod", node.chmod),
        ("link", node.link or None),
        *(("exclude", pattern) for pattern in node.exclude),
        ("checksum", node.checksum),
        ("keep-git-dir", node.keep_git_dir),
        ("unpack", node.unpack),
    ]


@_flags_of.register
def _(node: ast.Healthcheck) -> list[tuple[str, str | bool | None]]:
    return [
        ("interval", node.interval),
        ("timeout", node.timeout),
        ("start-period", node.start_period),
        ("start-interval", node.start_interval),
        ("retries", node.retries),
    ]


def _mount(mount: ast.MountFlag) -> str:
    fields = (key if value is None else f"{key}={value}" for key, value in mount.options)
    return ",".join(
        '"' + field.replace('"', '""') + '"' if '"' in field or "," in field else field
        for field in fields
    )


@singledispatch
def _arguments(node: ast.Instruction) -> str:
    """Return what stands behind an instruction's flags."""
    raise TypeError(f"no text is known for {type(node).__name__}")


@_arguments.register
def _(node: ast.From) -> str:
    return node.image if node.name is None else f"{node.image} AS {node.name}"


@_arguments.register
def _(node: ast.Run) -> str:
    if node.heredocs and node.command == ast.ShellForm(""):
        return _announced(node.heredocs[0])
    return _command(node.command)


@_arguments.register(ast.Copy)
@_arguments.register(ast.Add)
def _(node: ast.Copy | ast.Add) -> str:
    announced = [_announced(heredoc) for heredoc in node.heredocs]
    if announced:
        return " ".join([*node.sources, *announced, node.destination])
    return _list((*node.sources, node.destination))


@_arguments.register(ast.Env)
@_arguments.register(ast.Label)
def _(node: ast.Env | ast.Label) -> str:
    if not node.legacy:
        return " ".join("=".join(pair) for pair in node.pairs)
    # An escape character at the end of a name takes the first blank, for finding out the form.
    return " ".join(
        f"{name}  {value}" if name[-1:] in _ESCAPES else f"{name} {value}"
        for name, value in node.pairs
    )


@_arguments.register
def _(node: ast.Arg) -> str:
    return " ".join(name if value is None else f"{name}={value}" for name, value in node.pairs)


@_arguments.register
def _(node: ast.Workdir) -> str:
    return node.path


@_arguments.register
def _(node: ast.User) -> str:
    return node.user


@_arguments.register
def _(node: ast.Expose) -> str:
    return " ".join(node.ports)


@_arguments.register
def _(node: ast.Volume) -> str:
    return _list(node.paths)


@_arguments.register(ast.Cmd)
@_arguments.register(ast.Entrypoint)
def _(node: ast.Cmd | ast.Entrypoint) -> str:
    return _command(node.command)


@_arguments.register
def _(node: ast.Shell) -> str:
    return _json(node.args)


@_arguments.register
def _(node: ast.Healthcheck) -> str:
    return "NONE" if node.command is None else f"CMD {_command(node.command)}"


@_arguments.register
def _(node: ast.StopSignal) -> str:
    return node.signal


@_arguments.register
def _(node: ast.Maintainer) -> str:
    return node.name


def _command(command: ast.Command) -> str:
    return _json(command.args) if isinstance(command, ast.ExecForm) else command.text


def _list(words: tuple[str, ...]) -> str:
    """Return words with blanks between, as a JSON array where they could not be told apart."""
    is_plain = all(
        word and word == word.strip() and not re.search(r"[\t\v\f\r\n ]|^\d*<<", word)
        for word in words
    )
    return " ".join(words) if is_plain and not words[0].startswith(("[", "--")) else _json(words)


def _json(words: tuple[str, ...]) -> str:
    return json.dumps(words, ensure_ascii=False)


def _announced(heredoc: ast.Heredoc) -> str:
    """Return what announces a heredoc; its name is read as a word of a shell."""
    name = heredoc.name
    if heredoc.expand:
        name = re.sub(r"[\s'\"\\]", lambda found: "\\" + found[0], name)
    elif "'" not in name:
        name = f"'{name}'"
    else:
        name = '"' + re.sub(r'["$\\]', lambda found: "\\" + found[0], name) + '"'
    fd = "" if heredoc.fd is None else heredoc.fd
    return f"{fd}<<{'-' if heredoc.strip_tabs else ''}{name}"
