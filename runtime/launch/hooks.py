"""Hooks: programs that a config.json has run at moments of the container's life.

Source: runtime-spec config.md, "POSIX-platform Hooks". Each gets the container's state on stdin;
the first that fails ends what was under way.
"""

import os
import select
import time
from _signal import strsignal  # type: ignore[import-not-found]  # `signal` imports enum

from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux.process import close_range, pidfd_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtime.plan import HookPlan

_KEPT_OUTPUT = 4096


class HookFailed(Exception):
    """A hook did not end with 0 in its time; str() says which, and what it wrote."""


def run_hooks(
    moment: str,
    hooks: "list[HookPlan]",
    state: bytes,
    env: "Mapping[bytes, bytes] | None" = None,
    before_exec: "Callable[[], None] | None" = None,
) -> None:
    """Run `hooks` one after the other. Raises HookFailed at the first that fails.

    env: of those that name none, by default our own. before_exec: called in each hook's process.
    """
    inherited = os.environb if env is None else env
    for number, hook in enumerate(hooks):
        try:
            cause, output = _run(hook, state, inherited, before_exec)
        except OSError as error:
            cause, output = f"{error.strerror}", b""
        if cause:
            said = output.decode(errors="replace").strip()
            text = f"error running hook {moment} #{number} {hook[0]}: {cause}"
            text += f": {said}" if said else ""
            raise HookFailed(text)


def _run(
    hook: "HookPlan",
    state: bytes,
    inherited: "Mapping[bytes, bytes]",
    before_exec: "Callable[[], None] | None",
) -> "tuple[str, bytes]":
    """Return why the hook failed (empty: it did not) and the last that it wrote."""
    stdin_read, stdin_write = os.pipe()
    output_read, output_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(hook, (stdin_read, output_write), inherited, before_exec)
    os.close(stdin_read)
    os.close(output_write)
    try:
        with tolerate(BrokenPipeError):  # it need not read it
            os.write(stdin_write, state)
        os.close(stdin_write)
        return _await(pid, output_read, hook[3])
    finally:
        os.close(output_read)


def _become(
    hook: "HookPlan",
    pipes: "tuple[int, int]",
    inherited: "Mapping[bytes, bytes]",
    before_exec: "Callable[[], None] | None",
) -> None:
    (path, args, env, _), (stdin, output) = hook, pipes
    try:
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        close_range(3, flags=c.CLOSE_RANGE_CLOEXEC)
        own = dict(inherited)
        if env is not None:
            pairs = (os.fsencode(entry).partition(b"=") for entry in env)
            own = {name: value for name, _, value in pairs}
        if before_exec is not None:
            before_exec()
        os.execve(path, args, own)
    except OSError as error:
        os.write(2, f"exec: {error.strerror}".encode())
    finally:
        os._exit(127)


def _await(pid: int, output: int, timeout_s: int) -> "tuple[str, bytes]":
    deadline = time.monotonic() + timeout_s if timeout_s else None
    pidfd = pidfd_open(pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(output, select.POLLIN)
    said, cause = b"", ""
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = {fd for fd, _ in poller.poll(left)}
            if output in ready:
                data = os.read(output, _KEPT_OUTPUT)
                said = (said + data)[-_KEPT_OUTPUT:]
                if not data:
                    poller.unregister(output)
            elif pidfd in ready:
                break
            elif not ready:
                cause = f"still running after {timeout_s} s"
                os.kill(pid, c.SIGKILL)
                break
    finally:
        os.close(pidfd)
    status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    if code and not cause:
        cause = f"exit status {code}" if code > 0 else _signal_text(-code)
    return cause, said


def _signal_text(number: int) -> str:
    return f"killed by signal {number} ({(strsignal(number) or 'unknown').lower()})"
