"""The process of a RUN in its container: its output without secrets, its end in words."""

import signal
from collections import deque
from collections.abc import Mapping, Sequence

from builder.errors import Canceled, InstructionError, StepFailed
from builder.isolation import WARNINGS, isolation_of, refusal
from builder.keptstep import keep
from builder.networks import on_host
from builder.ops.mounts import Place, Provided, provided
from builder.ops.tries import is_last
from builder.policy import bytes_words, duration_words
from builder.request import Ulimit
from builder.secrets import Masker
from builder.site import Site, Step
from builder.vertex import RunOp, Vertex
from grammar.ast import Policies
from runtime.emulation import emulator_missing
from runtime.errors import CommandNotExecutable, CommandNotFound, RuntimeFailure
from runtime.execution import USUAL_SHM_BYTES
from runtime.executor import Execution, ExitStatus, execute
from runtime.spec import Resources, Rlimit
from store import manner, platforms
from store.activesnapshot import Active
from values.classes import dataclass, field

_CPU_PERIOD_US = 100_000
_TAIL_LINES = 10
# A line may be of any length, an error's text may not.
_TAIL_LINE_BYTES = 1 << 12
_SINGLE_ID = (
    "with a single id other owners and users are emulated (pybuild info says what is missing)"
)
_EMULATED_USER = (
    "EmulatedUser",
    "a single id stands for every user: a step of another than root may do to files what root may",
)
_UNLIMITED = (1 << 64) - 1  # RLIM_INFINITY


@dataclass(slots=True)
class Tail:
    """The last lines of an output."""

    lines: deque[bytes] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Take more output."""
        *whole, rest = (self.rest + data).split(b"\n")
        self.lines.extend(line[-_TAIL_LINE_BYTES:] for line in whole[-_TAIL_LINES:])
        self.rest = rest[-_TAIL_LINE_BYTES:]

    def text(self) -> str:
        """Return the last lines, without control characters that would move the cursor."""
        last = [*self.lines, self.rest] if self.rest else list(self.lines)
        return "\n".join(
            line.decode("utf-8", "replace").rstrip("\r") for line in last[-_TAIL_LINES:]
        )


@dataclass(slots=True)
class Output:
    """Where a process's output goes: without secrets to the step, its end to an error's text."""

    step: Step
    tail: Tail = field(default_factory=Tail)
    maskers: dict[int, Masker] = field(default_factory=dict)

    def hide(self, secrets: Sequence[bytes]) -> None:
        """Let these values not appear."""
        self.maskers = {fd: Masker(secrets) for fd in (1, 2)} if secrets else {}

    def take(self, fd: int, data: bytes) -> None:
        """Take bytes that the process wrote to `fd`."""
        self._pass_on(fd, self.maskers[fd].feed(data) if fd in self.maskers else data)

    def finish(self) -> None:
        """Pass on what was held back."""
        for fd, masker in self.maskers.items():
            self._pass_on(fd, masker.finish())

    def _pass_on(self, fd: int, data: bytes) -> None:
        if data:
            self.tail.feed(data)
            self.step.output(fd, data)


def run_process(op: RunOp, place: Place, active: Active, step: Step) -> ExitStatus:
    """Run the process to a good end on `active`. Raises StepFailed, InstructionError, Canceled.

    What the last try of one that fails leaves is kept, where the build wants that.
    """
    vertex, site = place.vertex, place.site
    check_emulator(op, vertex)
    output = Output(step)
    try:
        with provided(op, place) as mounts:
            output.hide(mounts.secrets)
            execution = networked(execution_of(op, active, mounts, place), op, site)
            ended = ended_process(execution, output, site, vertex.policies)
            output.finish()
            if isinstance(ended, StepEnd):
                kept = site.keep_failed and is_last(vertex, step, ended.code)
                kept = kept and keep(op, place, active, mounts, step)
                entry = f"{site.build_id[:8]}:{step.number}" if kept else ""
                raise failure(op, vertex, output, ended, entry) from ended.cause
    except RuntimeFailure as error:
        if site.cancel.is_set():
            raise Canceled from error
        raise InstructionError(vertex.place, str(error), hint=error.hint) from error
    if ended.out_of_memory and vertex.policies.memory_bytes:
        text = f"--- a process {exit_text(ended, vertex.policies)}; the step went on ---\n"
        step.output(2, text.encode())
    return ended


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How a process ended badly: its exit code, that in words, and what it took."""

    code: int
    how: str
    cause: RuntimeFailure | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


def ended_process(
    execution: Execution, output: Output, site: Site, policies: Policies
) -> ExitStatus | StepEnd:
    """Run the process and return how it ended. Raises RuntimeFailure, Canceled."""
    try:
        status = execute(
            execution,
            on_output=output.take,
            cancel=site.cancel,
            launchers=None if execution.isolation == "chroot" else site.launchers,
        )
    except (CommandNotFound, CommandNotExecutable) as error:
        return StepEnd(error.exit_code, str(error), error)
    # One that fails by itself while others are being stopped has failed all the same.
    if site.cancel.is_set() and (status.code == 0 or status.signal == signal.SIGKILL):
        output.finish()
        raise Canceled
    if status.code == 0:
        return status
    return StepEnd(status.code, exit_text(status, policies), None, facts_of(status))


def facts_of(status: ExitStatus) -> dict[str, object]:
    """Return what the journal says of a process."""
    return {"cpu_seconds": status.cpu_seconds, "peak_memory_bytes": status.peak_memory_bytes}


def resources_of(policies: Policies) -> Resources:
    """Return the limits that policies set a step's processes.

    Memory is not stretched by swap, so that what is too much ends soon. v1's way to say so is
    swappiness, where a limit of swap needs a kernel that counts it; v2's is a file, where there is
    swap at all.
    """
    found = Resources()
    if policies.memory_bytes:
        found["memory"] = {"limit": policies.memory_bytes, "swappiness": 0}
        found["unified"] = {"?memory.swap.max": "0"}
    if policies.cpus:
        found["cpu"] = {"quota": round(policies.cpus * _CPU_PERIOD_US), "period": _CPU_PERIOD_US}
    return found


def check_emulator(op: RunOp, vertex: Vertex) -> None:
    """Raise InstructionError where programs of the step's platform cannot run on this machine."""
    cause = emulator_missing(platforms.parse(op.platform), platforms.host())
    if cause is not None:
        raise InstructionError(
            vertex.place,
            f"RUN for {op.platform} on {platforms.host()}: {cause}",
            hint="install qemu-user-static, or cross-compile in a stage FROM "
            "--platform=$BUILDPLATFORM; stages without RUN need nothing",
        )


def networked(execution: Execution, op: RunOp, site: Site) -> Execution:
    """Return the process in the network that its step has. Raises NetworkFailed."""
    if op.network != "default" or execution.isolation == "chroot":
        return on_host(execution)
    return site.network.connected(execution)


def execution_of(op: RunOp, active: Active, mounts: Provided, place: Place) -> Execution:
    """Return the process with its container. Raises InstructionError where there can be none."""
    isolation = isolation_of(op.sandbox)
    if isolation == "none":
        raise refusal(place.vertex.place)
    if isolation in WARNINGS:
        place.site.progress.warn_once(*WARNINGS[isolation])
    if not manner.current().all_owners and op.user.partition(":")[0] not in ("", "0", "root"):
        place.site.progress.warn_once(*_EMULATED_USER)
    names = {name for name, _ in op.env}
    given = [pair for pair in op.sandbox.env if pair[0] not in names]
    env = (*given, *op.env, *op.proxy_env, *mounts.env)
    sandbox = op.sandbox
    return Execution(
        mount=active.mount,
        args=op.args,
        env=tuple(f"{name}={value}" for name, value in env),
        cwd=op.cwd,
        create_cwd=True,
        own_cwd=True,
        user=op.user,
        hostname=op.hostname,
        network="none" if op.network == "none" else "host",
        binds=tuple(mounts.binds),
        lock_fds=(active.lock_fd, *mounts.lock_fds),
        privileged=op.security == "insecure",
        extra_hosts=sandbox.extra_hosts,
        limits=tuple(_rlimit(limit) for limit in sandbox.ulimits),
        cgroup_parent=sandbox.cgroup_parent,
        resources=resources_of(place.vertex.policies),
        timeout_s=place.vertex.policies.timeout_ms / 1000 or None,
        filters=place.site.store.root,
        isolation=isolation,
        shm_bytes=USUAL_SHM_BYTES if sandbox.shm_bytes is None else sandbox.shm_bytes,
    )


def _rlimit(limit: Ulimit) -> Rlimit:
    soft, hard = (_UNLIMITED if value < 0 else value for value in (limit.soft, limit.hard))
    return {"type": f"RLIMIT_{limit.name.upper()}", "soft": soft, "hard": hard}


def exit_text(status: ExitStatus, policies: Policies) -> str:
    """Return how a process ended badly, in words."""
    peak_bytes = status.peak_memory_bytes
    peak = f" (peak {bytes_words(peak_bytes)})" if peak_bytes else ""
    if status.timed_out:
        return f"exceeded its timeout of {duration_words(policies.timeout_ms)}"
    if status.out_of_memory and policies.memory_bytes:
        return f"exceeded its memory limit of {bytes_words(policies.memory_bytes)}{peak}"
    if status.out_of_memory:
        return f"ran out of the host's memory{peak}"
    if status.signal is not None:
        return f"exit code: {status.code} (killed by signal {status.signal})"
    return f"exit code: {status.code}"


def failure(op: RunOp, vertex: Vertex, output: Output, end: StepEnd, entry: str) -> StepFailed:
    """Return the error of a process that ended badly, with the last lines that it wrote."""
    tries = f" in {output.step.tries} tries" if output.step.tries > 1 else ""
    failed = StepFailed(
        vertex.place,
        f'process "{" ".join(op.args)}" did not complete successfully{tries}: {end.how}',
        exit_code=end.code,
        how=end.how,
        log_path=output.step.log_path,
        step_name=vertex.name,
        output=output.tail.text(),
        entry=entry,
    )
    failed.facts = end.facts
    if not manner.current().all_owners:
        failed.hint = "; ".join(filter(None, (_SINGLE_ID, failed.hint)))
    return failed
