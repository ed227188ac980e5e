"""RUN as a step: its key, and the process in its container."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from builder.errors import Canceled, InstructionError, StepFailed
from builder.ops.registry import Ingredients, Made, describe, perform
from builder.site import Result, Site, Step
from builder.vertex import RunOp, Vertex
from runtime.errors import CommandNotExecutable, CommandNotFound, RuntimeFailure
from runtime.executor import Execution, ExitStatus, execute

_TAIL_LINES = 10


@describe.register
def describe_run(op: RunOp, _vertex: Vertex, _inputs: Sequence[Result], _site: Site) -> Ingredients:
    """RUN: what the process is given. Proxy variables do not count."""
    return Ingredients(
        {
            "args": list(op.args),
            "env": [f"{name}={value}" for name, value in op.env],
            "cwd": op.cwd,
            "user": op.user,
            "network": op.network,
            "hostname": op.hostname,
            "security": "sandbox",
        }
    )


@dataclass(slots=True)
class Tail:
    """The last lines of an output."""

    lines: deque[bytes] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Take more output."""
        *whole, self.rest = (self.rest + data).split(b"\n")
        self.lines.extend(whole)

    def text(self) -> str:
        """Return the last lines, without control characters that would move the cursor."""
        last = [*self.lines, self.rest] if self.rest else list(self.lines)
        return "\n".join(
            line.decode("utf-8", "replace").rstrip("\r") for line in last[-_TAIL_LINES:]
        )


@perform.register
def perform_run(
    op: RunOp, vertex: Vertex, inputs: Sequence[Result], site: Site, step: Step
) -> Made:
    """Run the process and make a layer of what it changed."""
    tail = Tail()

    def take(fd: int, data: bytes) -> None:
        tail.feed(data)
        step.output(fd, data)

    with site.store.snapshots.prepare(inputs[0].chain, stubs=True) as active:
        execution = Execution(
            mount=active.mount,
            args=op.args,
            env=tuple(f"{name}={value}" for name, value in (*op.env, *op.proxy_env)),
            cwd=op.cwd,
            user=op.user,
            hostname=op.hostname,
            network="none" if op.network == "none" else "host",
            lock_fds=(active.lock_fd,),
        )
        try:
            status = execute(execution, on_output=take, cancel=site.cancel)
        except (CommandNotFound, CommandNotExecutable) as error:
            raise failure(op, vertex, step, tail, error.exit_code, str(error)) from error
        except RuntimeFailure as error:
            if site.cancel.is_set():
                raise Canceled from error
            raise InstructionError(vertex.place, str(error), hint=error.hint) from error
        if site.cancel.is_set():
            raise Canceled
        if status.code != 0:
            raise failure(op, vertex, step, tail, status.code, exit_text(status))
        info = active.commit()
    facts = {"cpu_seconds": status.cpu_seconds, "peak_memory_bytes": status.peak_memory_bytes}
    return Made(info.diff_id, info.size_bytes, facts)


def exit_text(status: ExitStatus) -> str:
    """Return how a process ended, in words."""
    if status.signal is not None:
        return f"exit code: {status.code} (killed by signal {status.signal})"
    return f"exit code: {status.code}"


def failure(op: RunOp, vertex: Vertex, step: Step, tail: Tail, code: int, how: str) -> StepFailed:
    """Return the error of a process that ended badly, with the last lines that it wrote."""
    text = tail.text()
    rule = "-" * 6
    shown = f"{rule}\n > {vertex.name}:\n{text}\n{rule}" if text else None
    return StepFailed(
        vertex.place,
        f'process "{" ".join(op.args)}" did not complete successfully: {how}',
        exit_code=code,
        log_path=step.log_path,
        details=shown,
    )
