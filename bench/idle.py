"""Row h: the memory of those who watch over a container in which nothing happens.

What counts is the proportional set size of every process that is there because of the container,
but for the container's own: the command that was typed, what it left running, resident daemons.
Pages that several processes map count in parts, also those of other programs on the host.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import contestants
from contestants import BUSYBOX, Contestant, descendants

TITLE = "idle container: memory of its supervisor (PSS)"
# How long a container has to be silent: what comes to rest has come to rest.
SILENCE_S = 6.0
START_LIMIT_S = 30.0


def supervisors_kib(contestant: Contestant, log: Path) -> dict[str, int]:
    """Return program → KiB of what is there for an idle container of `contestant`."""
    assert contestant.run_argv is not None
    before = {*descendants(os.getpid())}
    argv = contestant.run_argv(BUSYBOX, ["sleep", "3600"])
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            env=contestant.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + START_LIMIT_S
    while not (inside := _contained({*descendants(os.getpid())} - before)):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{' '.join(argv)}: {log.read_text(errors='replace')}")
        time.sleep(0.05)
    try:
        time.sleep(SILENCE_S)
        theirs = {*descendants(os.getpid())} - before | {*contestant.daemons}
        found: dict[str, int] = {}
        for pid in theirs - _contained(theirs):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            found[name] = found.get(name, 0) + _pss_kib(pid)
        return found
    finally:
        for pid in inside:
            os.kill(pid, signal.SIGKILL)
        process.wait()


def _contained(pids: set[int]) -> set[int]:
    """Return those that are in another pid namespace than we are."""
    ours = os.readlink("/proc/self/ns/pid")
    found = set()
    for pid in pids:
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") != ours:
                found.add(pid)
        except OSError:
            continue  # it has ended
    return found


def _pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/smaps_rollup: no Pss")


def measured(field: list[Contestant], work: Path) -> dict[str, dict[str, int]]:
    """Return contestant → program → KiB, and print it."""
    print(f"\nh: {TITLE}\n   `{contestants.BUSYBOX}` running `sleep` in the foreground")
    found = {}
    for contestant in field:
        found[contestant.name] = parts = supervisors_kib(contestant, work / "log")
        text = ", ".join(f"{name} {kib / 1024:.1f}" for name, kib in sorted(parts.items()))
        print(f"   {contestant.name}: {sum(parts.values()) / 1024:.1f} MiB ({text})")
    return found
