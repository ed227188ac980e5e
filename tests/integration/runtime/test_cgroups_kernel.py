"""Limits, device rules and the leaf's life, in the trees that this host has."""

import fcntl
import os
from pathlib import Path

import pytest

from runtime.cgroups import cgroup_plan
from runtime.errors import LaunchFailed
from runtime.execution import spec_of
from runtime.executor import Execution
from runtime.launch import cgroup, cgroupfiles

pytestmark = pytest.mark.kernel


def mounted() -> dict[str, str]:
    return cgroupfiles.hierarchies(Path("/proc/self/mountinfo").read_text())


@pytest.fixture
def needs():
    """Return a function: needs("memory") skips where no tree has that controller."""

    def check(controller: str) -> None:
        trees = mounted()
        v2 = Path(trees.get("unified", "/none"), "cgroup.controllers")
        if controller not in trees and controller not in (
            v2.read_text().split() if v2.exists() else ()
        ):
            pytest.skip(f"needs the {controller} controller")

    return check


def test_memory_limit(run, needs):
    needs("memory")
    script = "x=$(busybox dd if=/dev/zero bs=1M count=64 | busybox tr '\\0' x); echo got it"
    ran = run(script, resources={"memory": {"limit": 16 << 20, "swap": 16 << 20}})
    assert "got it" not in ran.out
    assert ran.status.out_of_memory
    assert 8 << 20 < ran.status.peak_memory_bytes <= 17 << 20


def test_pids_limit(run, needs):
    needs("pids")
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2 & done; wait; echo all"
    assert "all" in run(script).out
    limited = run(script, resources={"pids": {"limit": 5}})
    assert "fork" in limited.err or "all" not in limited.out


def test_cpuset(run, needs):
    needs("cpuset")
    script = "busybox grep Cpus_allowed_list /proc/self/status"
    assert run(script, resources={"cpu": {"cpus": "0"}}).out.split() == ["Cpus_allowed_list:", "0"]


def test_limits_that_cannot_be_kept_are_an_error(run):
    with pytest.raises(LaunchFailed, match="cgroup"):
        run("true", resources={"cpu": {"cpus": "4000"}})


def test_what_a_killed_launcher_left_is_removed(run):
    for tree in mounted().values():
        stale = Path(tree, "pybuild", "stale-test")
        held = Path(tree, "pybuild", "held-test")
        for path in (stale, held):
            path.mkdir(parents=True)
        fd = os.open(held, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        run("true")
        assert held.exists()
        assert not stale.exists(), tree
        os.close(fd)
        run("true")
        assert not held.exists(), tree


def test_the_container_sees_its_leaf_as_the_root(run):
    lines = run("cat /proc/self/cgroup").out.splitlines()
    assert all(line.endswith(":/") for line in lines)
    ran = run("cat /sys/fs/cgroup/unified/cgroup.procs || cat /sys/fs/cgroup/cgroup.procs")
    assert "1\n" in ran.out


def test_device_rules_by_the_v1_controller(snapshot):
    """The fall-back where bpf(2) is refused; the plan's lines are what the controller takes."""
    if "devices" not in mounted():
        pytest.skip("needs the v1 devices controller")
    plan = cgroup_plan(spec_of(Execution(snapshot.mount, ("true",))), f"{os.getpid()}-v1")
    plan["device_program"] = b""
    with cgroup.Leaf(plan) as leaf:
        assert leaf.guards_devices
        path = Path(mounted()["devices"], "pybuild", plan["name"], "devices.list")
        listed = set(path.read_text().splitlines())
    assert "c 1:3 rwm" in listed
    assert "c *:* m" in listed
    assert "a *:* rwm" not in listed
