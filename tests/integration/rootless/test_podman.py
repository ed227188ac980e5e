"""podman without root on pybuild-runtime, which is then inside podman's user namespace."""

import pytest

pytestmark = pytest.mark.kernel

CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "ours"
[engine.runtimes]
ours = ["{home}/pybuild-runtime"]
"""
RUNTIME = """\
#!/bin/sh
export LD_LIBRARY_PATH={house}/python/lib PYTHONPATH={house}/project:{house}/packages
export PYTHONDONTWRITEBYTECODE=1
exec {python} -c 'from runtime.command.main import process; process()' "$@"
"""
LIFE = """\
podman import -q rootfs.tar image >/dev/null
podman run --rm --network host image sh -c 'id -u; cat /proc/self/uid_map; echo x > /dev/null'
podman run --rm --network none -u 1000 image id -u
podman run -d --name one --network none image sleep 1000 >/dev/null
podman exec one sh -c 'ls /sys/class/net; exit 3' || echo $?
podman kill one
podman rm -f one
ls "$XDG_RUNTIME_DIR/pybuild-runtime"
podman system migrate
"""


def test_containers_live_and_end(make_user, tool) -> None:
    tool("podman")
    user = make_user()
    user.write(".config/containers/containers.conf", CONTAINERS_CONF.format(home=user.home))
    python = user.house / "python" / user.interpreter
    runtime = user.write("pybuild-runtime", RUNTIME.format(house=user.house, python=python))
    runtime.chmod(0o755)
    said = user.run("sh", "-e", "-c", LIFE).stdout.splitlines()
    assert [line.split() for line in said] == [
        ["0"],
        ["0", "4321", "1"],
        ["1", "231072", "65536"],
        ["1000"],
        ["lo"],
        ["3"],
        ["one"],
        ["one"],
    ]
