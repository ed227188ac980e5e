"""Limits of config.json as files of cgroup v2 and v1."""

import pytest

from runtime.cgroups import v1_writes, v2_writes, weight_of_blkio, weight_of_shares

MIB = 1 << 20


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (0, 0)])
def test_shares(shares, weight):
    assert weight_of_shares(shares) == weight


@pytest.mark.parametrize(("blkio", "weight"), [(10, 1), (100, 910), (1000, 10000), (0, 0)])
def test_block_weight(blkio, weight):
    assert weight_of_blkio(blkio) == weight


@pytest.mark.parametrize(
    ("resources", "v2", "v1"),
    [
        (
            {"memory": {"limit": 4 * MIB, "swap": 6 * MIB}},
            [("memory.max", str(4 * MIB)), ("memory.swap.max", str(2 * MIB))],
            [
                ("memory", "memory.limit_in_bytes", str(4 * MIB)),
                ("memory", "memory.memsw.limit_in_bytes", str(6 * MIB)),
            ],
        ),
        (
            {"memory": {"limit": -1, "swap": -1}},
            [("memory.max", "max"), ("memory.swap.max", "max")],
            [
                ("memory", "memory.limit_in_bytes", "-1"),
                ("memory", "memory.memsw.limit_in_bytes", "-1"),
            ],
        ),
        ({"pids": {"limit": -1}}, [("pids.max", "max")], [("pids", "pids.max", "max")]),
        (
            {"cpu": {"idle": 1, "shares": 5}},
            [("cpu.idle", "1")],
            [("cpu", "cpu.shares", "5"), ("cpu", "cpu.idle", "1")],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 7}]},
            [("hugetlb.2MB.max", "7"), ("?hugetlb.2MB.rsvd.max", "7")],
            [("hugetlb", "hugetlb.2MB.limit_in_bytes", "7")],
        ),
        (
            {"rdma": {"mlx": {"hcaHandles": 3}}},
            [("rdma.max", "mlx hca_handle=3 hca_object=max")],
            [("rdma", "rdma.max", "mlx hca_handle=3 hca_object=max")],
        ),
        (
            {"network": {"classID": 5, "priorities": [{"name": "lo", "priority": 1}]}},
            [],
            [
                ("net_cls", "net_cls.classid", "5"),
                ("net_prio", "net_prio.ifpriomap", "lo 1"),
            ],
        ),
        ({"unified": {"b": "2", "a": "1"}}, [("a", "1"), ("b", "2")], []),
    ],
)
def test_writes(resources, v2, v1):
    assert v2_writes(resources) == v2
    assert v1_writes(resources) == v1
