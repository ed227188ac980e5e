"""The last step: find the command inside the container and become it."""

import errno
import fcntl
import os

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CommandFailed(Exception):
    """execve did not happen: kind (`not-found`, `not-executable`), one line, errno."""


def environment(entries: "list[str]", home: str, tty: bool) -> "dict[bytes, bytes]":
    """Return the environment; the last of repeated names wins, HOME and TERM get defaults."""
    result: dict[bytes, bytes] = {}
    for entry in entries:
        name, _, value = os.fsencode(entry).partition(b"=")
        result.pop(name, None)
        result[name] = value
    result.setdefault(b"HOME", os.fsencode(home))
    if tty:
        result.setdefault(b"TERM", b"xterm")
    return result


def _candidates(args: "list[str]", env: "dict[bytes, bytes]") -> "list[str]":
    name = args[0]
    if "/" in name:
        return [name]
    search = os.fsdecode(env.get(b"PATH", b"")) or _DEFAULT_PATH
    # Empty entries would mean the working directory, which an image must ask for by name.
    return [f"{folder}/{name}" for folder in search.split(":") if folder] if name else []


def find(args: "list[str]", env: "dict[bytes, bytes]") -> None:
    """Raise CommandFailed where `execute` would find nothing that it may execute."""
    denied = False
    for path in _candidates(args, env):
        if not _is_there(path):
            continue
        if _may_execute(path):
            return
        if "/" in args[0] and os.path.isdir(path):
            # "permission denied" is what docker looks for when it chooses its exit code.
            text = f'exec: "{args[0]}": is a directory: permission denied'
            raise CommandFailed("not-executable", text, errno.EACCES)
        denied = True
    raise _nothing_found(args[0], denied)


def _nothing_found(name: str, denied: bool) -> CommandFailed:
    if denied:
        return CommandFailed("not-executable", f'exec: "{name}": permission denied', errno.EACCES)
    if "/" in name:
        text = f'exec: "{name}": stat {name}: no such file or directory'
    else:
        text = f'exec: "{name}": executable file not found in $PATH'
    return CommandFailed("not-found", text, errno.ENOENT)


def execute(args: "list[str]", env: "dict[bytes, bytes]") -> None:
    """execve `args`, looking for a bare name along the container's PATH; only returns by raising.

    The exit codes and words are docker's: 127 what is not there, 126 what cannot be executed.
    """
    name, candidates = args[0], _candidates(args, env)
    denied = False
    for path in candidates:
        try:
            os.execve(path, args, env)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR) and not _is_there(path):
                continue
            if error.errno == errno.EACCES and len(candidates) > 1:
                denied = True
                continue
            raise _explain(name, path, error) from error
    raise _nothing_found(name, denied)


def hand_over(
    image: int, args: "list[str]", env: "dict[bytes, bytes]", report: "tuple[int, int]"
) -> None:
    """Do what `execute` does by the program `image`, a trampoline; only returns by raising.

    report: the number under which that one expects the pipe, and the pipe. What goes wrong from
    then on arrives there as (errno,).
    """
    candidates = [path for path in _candidates(args, env) if _may_execute(path)]
    if not candidates:
        find(args, env)
    number, pipe = report
    if image == number:
        image = fcntl.fcntl(image, fcntl.F_DUPFD_CLOEXEC, number + 1)
    if pipe != number:
        os.dup2(pipe, number)
    os.set_inheritable(number, True)
    os.execve(image, [*candidates, "", *args], env)


def refusal(name: str, code: int) -> CommandFailed:
    """Return why the file that was found for the command `name` was not executed."""
    cause = os.strerror(code).lower()
    if code == errno.EISDIR:
        cause += ": permission denied"  # what podman looks for when it chooses its exit code
    if code != errno.ENOENT:
        return CommandFailed("not-executable", f'exec: "{name}": {cause}', code)
    # The file is there, so what is missing is its interpreter or dynamic loader.
    text = f'exec: "{name}": {cause} (its interpreter is not in the image)'
    return CommandFailed("not-found", text, code)


def _may_execute(path: str) -> bool:
    return os.access(path, os.X_OK) and not os.path.isdir(path)


def _is_there(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def _explain(name: str, path: str, error: OSError) -> CommandFailed:
    code = error.errno or 0
    if code == errno.EACCES and os.path.isdir(path):
        code = errno.EISDIR
    return refusal(path if code == errno.ENOENT else name, code)
