"""What users have and this machine may not: kernel 6.1, cgroup v2, other settings of the host."""

import os

import pytest

FULL = os.environ.get("PYBUILD_FULL") == "1"
pytestmark = [pytest.mark.kernel, pytest.mark.slow]

# Tests that the older kernel could fail: other mount calls, tmpfs without user xattrs, cgroup v2.
FEW = (
    "tests/integration/runtime/test_open_overlay.py",
    "tests/integration/runtime/test_cgroups_kernel.py::test_memory_limit",
    "tests/integration/runtime/test_cgroups_kernel.py::test_pids_limit",
    "tests/integration/runtime/test_cgroups_kernel.py::test_cpuset",
    "tests/integration/runtime/test_cgroups_kernel.py::test_what_a_killed_launcher_left_is_removed",
    "tests/integration/runtime/test_isolation.py::test_every_namespace_is_its_own",
    "tests/integration/runtime/test_isolation.py::test_device_rules_hold",
    "tests/integration/runtime/test_isolation.py::test_seccomp_and_no_new_privileges",
    "tests/integration/test_store_overlay.py::test_128_layers_are_mounted",
    "tests/integration/test_store_overlay.py::test_everything_a_tree_can_hold",
    "tests/integration/test_build.py::test_whiteouts_and_replaced_directories",
)
ALL = (
    "tests/integration/runtime/test_open_overlay.py",
    "tests/integration/runtime/test_cgroups_kernel.py",
    "tests/integration/runtime/test_isolation.py",
    "tests/integration/runtime/test_mounts.py",
    "tests/integration/test_store_overlay.py",
    "tests/integration/test_hostile_images.py",
    "tests/integration/test_build.py",
)
V1 = "tests/integration/runtime/test_cgroups_kernel.py::test_device_rules_by_the_v1_controller"

CHOSEN = ALL if FULL else FEW

# A host may set other defaults for overlay mounts. With them a layer is no longer one: a file of
# which only the owner changed has no data, a renamed directory says where it was.
DEFAULTS = """\
#!/bin/sh -e
export PYTHONPATH=/payload/project PYBUILD_ROOT=/disk/store
modprobe overlay
for name in metacopy redirect_dir index; do
    echo Y >/sys/module/overlay/parameters/$name
done
python3 -m pybuild import rootfs.tar busybox:test
mkdir /tmp/context
cat >/tmp/context/Dockerfile <<END
FROM busybox:test
RUN head -c 50000 /dev/zero > /file && mkdir /old && echo kept > /old/f
RUN chown 1000 /file && mv /old /new
END
python3 -m pybuild -t x /tmp/context
python3 -m pybuild run --rm x sh -c 'wc -c < /file; cat /new/f; ls -d /old || echo gone'
python3 -m pybuild system check --deep
for name in metacopy redirect_dir index; do
    echo N >/sys/module/overlay/parameters/$name
done
"""


@pytest.mark.inside(*CHOSEN, *([f"--deselect={V1}"] if FULL else []))
def test_tests_of_this_project_pass_on_it(inside, rounds) -> None:
    assert rounds(len(ALL), 1) == (len(ALL) if FULL else 1)
    assert len(inside) > len(CHOSEN)


@pytest.mark.inside(script=DEFAULTS)
def test_layers_are_independent_whatever_the_host_sets(inside) -> None:
    seen = [line for line in inside if line in ("50000", "kept", "gone", "clean")]
    assert seen == ["50000", "kept", "gone", "clean"]
