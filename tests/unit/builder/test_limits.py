"""What policies of memory and processors become: files of both versions of cgroups."""

from builder.ops.process import exit_text, resources_of
from grammar.ast import Policies
from runtime.cgroups import v1_writes, v2_writes
from runtime.running import ExitStatus

LIMITED = Policies(memory_bytes=2 << 30, cpus=1.5, timeout_ms=600_000)


def test_limits() -> None:
    resources = resources_of(LIMITED)
    assert v2_writes(resources) == [
        ("memory.max", str(2 << 30)),
        ("cpu.max", "150000 100000"),
        ("?memory.swap.max", "0"),
    ]
    assert v1_writes(resources) == [
        ("memory", "memory.limit_in_bytes", str(2 << 30)),
        ("memory", "memory.swappiness", "0"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "150000"),
    ]
    assert v2_writes(resources_of(Policies())) == []
    assert v1_writes(resources_of(Policies())) == []


def test_how_a_process_ended() -> None:
    def said(status: ExitStatus, policies: Policies = LIMITED) -> str:
        return exit_text(status, policies)

    killed = ExitStatus(137, 9, 2040 << 20, 1.0, out_of_memory=True)
    assert said(killed) == "exceeded its memory limit of 2 GiB (peak 1.99 GiB)"
    assert said(killed, Policies()) == "ran out of the host's memory (peak 1.99 GiB)"
    late = ExitStatus(137, 9, None, 1.0, timed_out=True)
    assert said(late) == "exceeded its timeout of 10 min"
    assert said(ExitStatus(137, 9, 5, 1.0)) == "exit code: 137 (killed by signal 9)"
    assert said(ExitStatus(3, None, 5, 1.0)) == "exit code: 3"
