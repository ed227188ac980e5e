"""The emulated machine itself: it boots, says what it is, and loses what was not flushed."""

import pytest

pytestmark = [pytest.mark.kernel]

LOOK = """\
#!/bin/sh
uname -r
cat /sys/fs/cgroup/cgroup.controllers
env PYTHONPATH=/payload/project python3 -m pybuild --version
"""

WRITE = """\
#!/bin/sh
echo flushed >/disk/flushed
sync -f /disk/flushed
echo lost >/disk/lost
echo written
sleep 1000
"""

READ = """\
#!/bin/sh
cat /disk/flushed
[ -s /disk/lost ] && cat /disk/lost
:
"""


def test_the_kernel_is_another_and_has_cgroup_v2(machine) -> None:
    release, controllers, version = machine.start(LOOK).finish()
    assert release.startswith("6.1.")
    assert {"cpu", "memory", "pids", "cpuset", "io"} <= set(controllers.split())
    assert version.startswith("pybuild")


def test_a_power_cut_loses_what_was_not_flushed(machine, tmp_path) -> None:
    disk = machine.make_disk(tmp_path / "disk.img", 64)
    guest = machine.start(WRITE, disk=disk)
    guest.wait_for("written")
    guest.cut_power()
    assert machine.start(READ, disk=disk).finish() == ["flushed"]
