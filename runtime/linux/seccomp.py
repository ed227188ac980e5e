"""Seccomp profiles compiled to BPF.

Owns the shape of the program. It loads nothing into the kernel.

Where a profile leaves a choice, libseccomp's is taken, so that a profile means what it means
under runc and crun:
- A rule whose action is the default action is dropped, so it takes nothing from another rule.
- Of several rules for one call, one without arguments wins; else the first that matches.
- A rule that compares one argument twice stands for one rule a comparison.
- On 32-bit ABIs only the lower halves of values are compared.
- A rule for a call that x86 also multiplexes (socketcall, ipc) holds for both ways in; behind
  the multiplexer it cannot compare the first argument, which is the number of the sub-call.
- An audit architecture that the profile does not name kills the thread.
And as runc does: where the default refuses, a call newer than every call that the profile names
gets ENOSYS, which C libraries take as "use the older call", not EPERM.
The x32 ABI gets ENOSYS, as from a kernel without it, unless `architectures` asks for it; docker's
archMap does for every x86_64 host, and that alone does not count.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from runtime.linux import syscalls
from runtime.linux.bpf import (
    JMP_JEQ_K,
    JMP_JGE_K,
    JMP_JGT_K,
    Assembler,
    Label,
)
from runtime.linux.seccomp_policy import (
    ENOSYS,
    ERRNO,
    KILL_THREAD,
    X32,
    Abi,
    Comparison,
    Policy,
    ProfileError,
    Rule,
    policy_for,
)

# struct seccomp_data
_NR = 0
_ARCH = 4
_ARGS = 16

_HALF = 0xFFFFFFFF

# x86's multiplexers: call -> (multiplexer, number of the sub-call). linux/net.h, linux/ipc.h
_SOCKET_CALLS = """socket bind connect listen accept getsockname getpeername socketpair send recv
sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"""
_MULTIPLEXED = {
    **{name: ("socketcall", n) for n, name in enumerate(_SOCKET_CALLS.split(), 1)},
    **{name: ("ipc", n) for n, name in enumerate(("semop", "semget", "semctl", "semtimedop"), 1)},
    **{name: ("ipc", n) for n, name in enumerate(("msgsnd", "msgrcv", "msgget", "msgctl"), 11)},
    **{name: ("ipc", n) for n, name in enumerate(("shmat", "shmdt", "shmget", "shmctl"), 21)},
}


class _Chain(NamedTuple):
    """Rules to try in order, before the default."""

    wide: bool  # compare all 64 bits
    rules: tuple[Rule, ...]


_Verdict = int | _Chain  # of a call: what it gets, or how to find out


def filter_for(
    profile: Mapping[str, Any],
    capabilities: Sequence[str],
    arch: str | None = None,
    *,
    kernel: str | None = None,
) -> bytes:
    """Return the BPF program that enforces `profile`: an array of struct sock_filter.

    profile: the object read from JSON, docker's or the OCI form.
    capabilities: the bounding set of the process, as CAP_SYS_ADMIN; includes and excludes ask it.
    arch: the machine, as uname or Go name it; None: this one.
    kernel: the release that minKernel is compared with; None: the running one.
    Raises ProfileError when the profile is malformed or the machine unknown.
    Source: runtime-spec config-linux.md, "Seccomp"; moby profiles/seccomp.
    """
    machine = arch or os.uname().machine
    policy = policy_for(profile, capabilities, machine, kernel or os.uname().release)
    program = Assembler()
    program.load(_ARCH)
    for audit in dict.fromkeys(abi.audit for abi in policy.abis):
        other = program.label()
        program.jump(JMP_JEQ_K, audit, otherwise=other)
        program.load(_NR)
        _emit_search(program, _verdicts(audit, policy), policy.default)
        program.place(other)
    program.answer(KILL_THREAD)
    try:
        return program.assemble()
    except ValueError as error:
        raise ProfileError(f"compile seccomp profile: {error}") from error


def _verdicts(audit: int, policy: Policy) -> list[tuple[int, _Verdict]]:
    """Return the verdict on every number of one audit architecture.

    Each holds from its number up to the next one's; the first number is 0.
    """
    starts: dict[int, _Verdict] = {}
    for abi in policy.abis:
        if abi.audit == audit:
            starts.update(_verdicts_of_abi(abi, policy))
    starts.setdefault(0, policy.default)
    if audit == X32.audit and X32 not in policy.abis:
        starts[syscalls.X32_BIT] = ERRNO | ENOSYS
        starts[0xFFFFFFFF] = policy.newest  # -1 is no x32 call: a tracer sets it to skip a call
    merged: list[tuple[int, _Verdict]] = []
    for number, verdict in sorted(starts.items(), key=lambda item: item[0]):
        if not merged or merged[-1][1] != verdict:
            merged.append((number, verdict))
    return merged


def _verdicts_of_abi(abi: Abi, policy: Policy) -> dict[int, _Verdict]:
    table = syscalls.numbers(abi.name)
    known = [table[name] for name in policy.mentioned if name in table]
    newest = max((number for number in known if number < _private_from(abi)), default=0xFFFFFFFF)
    calls: dict[int, list[Rule]] = {}
    for name, rule in policy.rules:
        for number, its_rule in _ways_in(abi, table, name, rule):
            calls.setdefault(number, []).append(its_rule)
    base = syscalls.X32_BIT if abi is X32 else 0
    starts: dict[int, _Verdict] = {base: policy.default}
    for number in (*calls, newest):
        if number < 0xFFFFFFFF:
            starts[number + 1] = policy.default if number < newest else policy.newest
    for number, rules in calls.items():
        starts[number] = _verdict(rules, abi.wide)
    return starts


def _private_from(abi: Abi) -> int:
    return syscalls.ARM_PRIVATE if abi.name == "arm" else 1 << 32


def _ways_in(
    abi: Abi, table: Mapping[str, int], name: str, rule: Rule
) -> Iterator[tuple[int, Rule]]:
    """Return (number, rule) for every number behind which `abi` has the call `name`."""
    if name in table:
        yield table[name], rule
    if abi.name == "x86" and name in _MULTIPLEXED:
        multiplexer, sub_call = _MULTIPLEXED[name]
        others = tuple(c for c in rule.comparisons if c.argument != 0)
        by_number = Comparison(0, "EQ", sub_call, 0)
        yield table[multiplexer], Rule(rule.action, (by_number, *others))


def _verdict(rules: Sequence[Rule], wide: bool) -> _Verdict:
    for rule in rules:
        if not rule.comparisons:
            return rule.action
    return _Chain(wide, tuple(dict.fromkeys(rules)))


def _emit_search(
    program: Assembler, verdicts: Sequence[tuple[int, _Verdict]], default: int
) -> None:
    """Emit a binary search of the accumulator, the call's number, among `verdicts`."""
    if len(verdicts) > 1:
        middle = len(verdicts) // 2
        above = program.label()
        program.jump(JMP_JGE_K, verdicts[middle][0], then=above)
        _emit_search(program, verdicts[:middle], default)
        program.place(above)
        _emit_search(program, verdicts[middle:], default)
        return
    verdict = verdicts[0][1]
    if isinstance(verdict, _Chain):
        for rule in verdict.rules:
            _emit_rule(program, rule, verdict.wide)
        program.answer(default)
    else:
        program.answer(verdict)


def _emit_rule(program: Assembler, rule: Rule, wide: bool) -> None:
    """Emit: answer if all comparisons hold, else go on below."""
    failed = program.label()
    for comparison in rule.comparisons:
        holds = program.label()
        if comparison.operator in ("NE", "LT", "LE"):
            _emit_comparison(program, comparison, wide, failed, holds)
        else:
            _emit_comparison(program, comparison, wide, holds, failed)
        program.place(holds)
    program.answer(rule.action)
    program.place(failed)


def _emit_comparison(
    program: Assembler, comparison: Comparison, wide: bool, true: Label, false: Label
) -> None:
    """Emit the jump to `true` or `false` of EQ, GE, GT, MASKED_EQ or of what NE, LT, LE negate."""
    argument, operator, value, _ = comparison
    if operator in ("EQ", "NE", "MASKED_EQ"):
        _emit_equality(program, comparison, wide, true, false)
        return
    low = _ARGS + 8 * argument
    if wide:
        program.load(low + 4)
        program.jump(JMP_JGT_K, value >> 32, then=true)
        program.jump(JMP_JEQ_K, value >> 32, otherwise=false)
    program.load(low)
    code = JMP_JGE_K if operator in ("GE", "LT") else JMP_JGT_K
    program.jump(code, value & _HALF, then=true, otherwise=false)


def _emit_equality(
    program: Assembler, comparison: Comparison, wide: bool, true: Label, false: Label
) -> None:
    argument, operator, value, value_two = comparison
    masked = operator == "MASKED_EQ"
    mask, wanted = (value, value_two) if masked else (~0, value)
    low = _ARGS + 8 * argument
    halves = [(low, mask & _HALF, wanted & _HALF)]
    if wide:
        halves.insert(0, (low + 4, mask >> 32 & _HALF, wanted >> 32))
    halves = [(offset, bits, half) for offset, bits, half in halves if bits]
    if not halves:
        program.goto(true)
    for number, (offset, bits, half) in enumerate(halves, 1):
        program.load(offset)
        if bits != _HALF:
            program.mask(bits)
        then = true if number == len(halves) else None
        program.jump(JMP_JEQ_K, half & bits, then=then, otherwise=false)
