"""Hooks: programs that a config.json has run at moments of the container's life.

Source: runtime-spec config.md, "POSIX-platform Hooks". Each gets the container's state on stdin;
the first that fails ends what was under way.
"""

import os
import select
import time

from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux.process import close_range, pidfd_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import HookPlan

_KEPT_OUTPUT = 4096


class HookFailed(Exception):
    """A hook did not end with 0 in its time; str() says which, and what it wrote."""


def run_hooks(moment: str, hooks: "list[HookPlan]", state: bytes) -> None:
    """Run `hooks` one after the other. Raises HookFailed at the first that fails."""
    for number, hook in enumerate(hooks):
        try:
            cause, output = _run(hook, state)
        except OSError as error:
            cause, output = f"{error.strerror}", b""
        if cause:
            said = output.decode(errors="replace").strip()
            text = f"hook {moment} #{number} {hook[0]}: {cause}" + (f": {said}" if said else "")
            raise HookFailed(text)


def _run(hook: "HookPlan", state: bytes) -> "tuple[str, bytes]":
    """Return why the hook failed (empty: it did not) and the last that it wrote."""
    stdin_read, stdin_write = os.pipe()
    output_read, output_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(hook, stdin_read, output_write)
    os.close(stdin_read)
    os.close(output_write)
    try:
        with tolerate(BrokenPipeError):  # it need not read it
            os.write(stdin_write, state)
        os.close(stdin_write)
        return _await(pid, output_read, hook[3])
    finally:
        os.close(output_read)


def _become(hook: "HookPlan", stdin: int, output: int) -> None:
    path, args, env, _ = hook
    try:
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        close_range(3, flags=c.CLOSE_RANGE_CLOEXEC)
        pairs = (os.fsencode(entry).partition(b"=") for entry in env)
        os.execve(path, args, {name: value for name, _, value in pairs})
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
        cause = f"exit status {code}" if code > 0 else f"killed by signal {-code}"
    return cause, said
