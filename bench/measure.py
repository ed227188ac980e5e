"""Run one command and say what it took: seconds, CPU seconds, memory.

The process that measures is a child subreaper: what a command leaves behind for a moment (podman's
conmon, a shim) becomes its child, is waited for and counted, outside the measured seconds.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
COMMAND_LIMIT_S = 180
LEFT_BEHIND_LIMIT_S = 10
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class CommandFailed(Exception):
    """A measured command failed: argv, its exit status and its output."""

    def __init__(self, argv: Sequence[str], status: int, output: str) -> None:
        super().__init__(f"{' '.join(argv)}: status {status}\n{output[-3000:]}")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of a command took.

    peak_bytes: resident memory of its largest process; resident daemons are counted on top.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def become_subreaper() -> None:
    """Make orphans of our descendants our children."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children() -> set[int]:
    """Return the pids of our children, of every thread."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        found.update(map(int, (task / "children").read_text().split()))
    return found


def daemon_cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU seconds that `pids` and the children they waited for have used so far."""
    ticks = 0
    for pid in pids:
        # The name may hold blanks and parentheses; what counts stands after the last one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_SECOND


def daemon_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of `pids` together."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total


def reap_left_behind(keep: set[int]) -> tuple[float, int]:
    """Wait for every child but `keep`; return their CPU seconds and the largest one's memory."""
    cpu_seconds, peak_bytes = 0.0, 0
    deadline = time.monotonic() + LEFT_BEHIND_LIMIT_S
    while left := children() - keep:
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes left behind: {sorted(left)}")
        for pid in left:
            reaped, _, usage = os.wait4(pid, os.WNOHANG)
            if reaped:
                cpu_seconds += usage.ru_utime + usage.ru_stime
                peak_bytes = max(peak_bytes, usage.ru_maxrss * 1024)
        time.sleep(0.002)
    return cpu_seconds, peak_bytes


def measure(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    daemons: Sequence[int] = (),
    log: Path,
) -> Sample:
    """Run `argv` to its end and return what it took. Raises CommandFailed.

    daemons: processes that work for the command and stay. log: where its output goes.
    """
    keep = children()
    daemons_before = daemon_cpu_seconds(daemons)
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        signal.signal(signal.SIGALRM, lambda *_: process.kill())
        signal.alarm(COMMAND_LIMIT_S)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        signal.alarm(0)
    process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would wait for it again
    if process.returncode != 0:
        raise CommandFailed(argv, process.returncode, log.read_text(errors="replace"))
    left_cpu, left_peak = reap_left_behind(keep)
    daemon_seconds = daemon_cpu_seconds(daemons) - daemons_before
    return Sample(
        seconds,
        usage.ru_utime + usage.ru_stime + left_cpu + daemon_seconds,
        max(usage.ru_maxrss * 1024, left_peak) + daemon_bytes(daemons),
    )
