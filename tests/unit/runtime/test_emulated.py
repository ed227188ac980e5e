"""Emulated identities, and the filter whose calls a supervisor answers."""

import os

import pytest

from runtime import defaults
from runtime.emulated import identity
from runtime.emulated.handlers import HANDLERS, HANDLERS_32
from runtime.emulated.identity import UNCHANGED, Processes
from runtime.emulated.profile import with_notifications
from runtime.emulated.world import Native, World
from runtime.linux import syscalls
from runtime.linux.seccomp_policy import policy_for

ROOT, APP = (0, 0, 0, 0), (1000, 1000, 1000, 1000)
NOTIFY, ALLOW = 0x7FC00000, 0x7FFF0000


def test_root_becomes_another_for_good_or_for_a_while() -> None:
    assert identity.set_id(ROOT, 1000, True) == APP
    for_a_while = identity.set_real_and_effective(ROOT, UNCHANGED, 1000, True)
    assert for_a_while == (0, 1000, 1000, 1000)
    kept = identity.set_three(ROOT, (UNCHANGED, 1000, UNCHANGED), True)
    assert kept == (0, 1000, 0, 1000)
    assert identity.set_three(kept, (0, 0, 0), False) == ROOT
    assert identity.set_file_system_id(ROOT, 7, True) == (0, 0, 0, 7)


def test_another_does_not_become_root() -> None:
    with pytest.raises(PermissionError):
        identity.set_id(APP, 0, False)
    with pytest.raises(PermissionError):
        identity.set_real_and_effective(APP, UNCHANGED, 0, False)
    with pytest.raises(PermissionError):
        identity.set_three(APP, (UNCHANGED, UNCHANGED, 0), False)
    assert identity.set_file_system_id(APP, 0, False) == APP


@pytest.mark.parametrize(
    ("before", "after", "may"),
    [
        ((1000, 1000), (1000, 50), True),
        ((1000, 1000), (1000, 51), False),
        ((1000, 1000), (0, 1000), False),
        ((1000, 1000), (1000, 1000), True),
        ((0, 0), (0, 0), False),
        ((0, 50), (1000, 50), False),
    ],
)
def test_who_may_give_a_file_away(before, after, may) -> None:
    who = identity.one(1000, 1000, (50,))
    assert who.may_give(before, after) == may
    assert identity.one(0, 0, ()).may_give(before, after)


def test_a_child_is_who_its_parent_is() -> None:
    proc = os.open("/proc", os.O_RDONLY)
    processes = Processes(identity.one(0, 0, ()), proc)
    processes.become(os.getpid(), identity.one(5, 5, ()))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        assert processes.of(child).uids[0] == 5
        processes.become(os.getpid(), identity.one(6, 6, ()))
        assert (processes.of(child).uids[0], processes.of(os.getpid()).uids[0]) == (5, 6)
        assert processes.of(os.getppid()).uids[0] == 0
    finally:
        os.close(write)
        os.waitpid(child, 0)
        os.close(read)
        os.close(proc)


def test_every_call_has_a_number_somewhere() -> None:
    assert HANDLERS.keys() <= syscalls.numbers("x86_64").keys()
    assert HANDLERS_32.keys() <= syscalls.numbers("x86").keys()


def test_what_is_answered_waits_and_what_is_refused_stays_refused() -> None:
    profile = with_notifications(defaults.seccomp_profile())
    policy = policy_for(profile, (), "x86_64", "6.1")
    actions: dict[str, set[int]] = {}
    for name, rule in policy.rules:
        actions.setdefault(name, set()).add(rule.action)
    assert actions["chown"] == actions["setresuid"] == actions["statx"] == {NOTIFY}
    assert actions["openat"] == {NOTIFY, ALLOW}
    assert all(rule.comparisons for name, rule in policy.rules if name == "openat")
    assert actions["read"] == {ALLOW}
    refusing = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}
    assert not policy_for(with_notifications(refusing), (), "x86_64", "6.1").rules
    one = {"names": ["chown"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    rules = with_notifications({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [one]})["syscalls"]
    assert [rule["action"] for rule in rules if "chown" in rule["names"]] == ["SCMP_ACT_ERRNO"]


def test_who_was_killed_while_we_looked_has_no_mask() -> None:
    """A supervisor that fell over it would leave the container without these calls."""
    proc = os.open("/proc", os.O_RDONLY)
    plan = {"capabilities": {"effective": 0}, "no_new_privileges": False}
    world = World((-1, proc, -1), Processes(identity.one(0, 0, ()), proc), plan)
    zombie = os.fork()
    if zombie == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
        with pytest.raises(Native):
            world.umask((0, zombie, 0, 0, (0,) * 6))
    finally:
        os.waitpid(zombie, 0)
        os.close(proc)
