"""Limits as writes, trees from mountinfo."""

import pytest

from runtime.cgroups import v1_writes, v2_writes, weight_of_shares
from runtime.launch.cgroupfiles import hierarchies

RESOURCES = {
    "memory": {"limit": 1000, "swap": 1500, "reservation": 500},
    "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 7},
}


def test_v2():
    assert v2_writes(RESOURCES) == [
        ("memory.max", "1000"),
        ("memory.swap.max", "500"),
        ("memory.low", "500"),
        ("cpu.weight", "39"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "7"),
    ]


def test_v1():
    assert v1_writes(RESOURCES) == [
        ("memory", "memory.limit_in_bytes", "1000"),
        ("memory", "memory.memsw.limit_in_bytes", "1500"),
        ("memory", "memory.soft_limit_in_bytes", "500"),
        ("cpu", "cpu.shares", "1024"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpuset", "cpuset.cpus", "0-1"),
        ("cpuset", "cpuset.mems", "0"),
        ("pids", "pids.max", "7"),
    ]


def test_no_limits_no_writes():
    assert v1_writes({}) == v2_writes({}) == []
    assert v2_writes({"pids": {"limit": 0}}) == []
    none = [("memory.max", "max"), ("?memory.swap.max", "max")]
    assert v2_writes({"memory": {"limit": -1}}) == none
    assert v2_writes({"cpu": {"period": 5000}}) == [("cpu.max", "max 5000")]


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (1, 1)])
def test_weight(shares, weight):
    assert weight_of_shares(shares) == weight


HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 /below /elsewhere rw - cgroup cgroup rw,memory
35 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
37 27 0:33 / /proc rw - proc proc rw
"""


def test_hierarchies_of_a_hybrid_host():
    assert hierarchies(HYBRID) == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "name=systemd": "/sys/fs/cgroup/systemd",
        "memory": "/sys/fs/cgroup/memory",
        "unified": "/sys/fs/cgroup/unified",
    }


def test_hierarchies_of_a_v2_host():
    line = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    assert hierarchies(line) == {"unified": "/sys/fs/cgroup"}
