"""The emulated machine itself: it boots, says what it is, and loses what was not flushed."""

import subprocess

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


@pytest.mark.inside(script=LOOK)
def test_the_kernel_is_another_and_has_cgroup_v2(inside) -> None:
    release, controllers, version = inside
    assert release.startswith("6.1.")
    assert {"cpu", "memory", "pids", "cpuset", "io"} <= set(controllers.split())
    assert version.startswith("pybuild")


def test_a_power_cut_loses_what_was_not_flushed(machine, tmp_path) -> None:
    disk = machine.make_disk(tmp_path / "disk.img", 64)
    guest = machine.start(WRITE, disk=disk, project=False)
    guest.wait_for("written")
    guest.cut_power()
    assert subprocess.run(["e2fsck", "-fy", disk], capture_output=True).returncode in (0, 1)
    contents = [
        subprocess.run(["debugfs", "-R", f"cat /{name}", disk], capture_output=True).stdout
        for name in ("flushed", "lost")
    ]
    assert contents == [b"flushed\n", b""]
